"""Contenders against each other."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping


def measure(
    calls: Mapping[str, Callable[[], object]], *, repeats: int = 20, warmups: int = 2, seed: int = 0
) -> dict[str, list[float]]:
    """Time contenders against each other, interleaved, each round in a new random order.

    Args:
        calls: from `cases.contenders`.
        repeats: rounds that count.
        warmups: rounds before them that do not.
        seed: of the orders.

    Returns:
        For each name its seconds, one a round.
    """
    import torch

    synchronise = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(seed).shuffle  # noqa: S311  (an order of measurement, not a secret)
    for round_number in range(warmups + repeats):
        shuffle(order)
        for name in order:
            synchronise()
            start = time.perf_counter()
            calls[name]()
            synchronise()
            if round_number >= warmups:
                samples[name].append(time.perf_counter() - start)
    return samples


def summarise(samples: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Minimum and median in seconds, and each contender's median over that of "ours" (above 1: ours is faster).

    The ratio is the median over rounds of the ratio within a round, which a machine that speeds up or slows down during
    the run does not move.
    """
    ours = samples["ours"]
    return {
        name: {
            "min": min(seconds),
            "median": statistics.median(seconds),
            "ratio": statistics.median(theirs / own for theirs, own in zip(seconds, ours, strict=True)),
        }
        for name, seconds in samples.items()
    }
