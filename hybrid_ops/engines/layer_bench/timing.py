"""Contenders against each other."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping


def time_round(calls: Mapping[str, Callable[[], object]], seed: int) -> dict[str, float]:
    """Seconds of each contender, called once, in an order drawn from `seed`.

    Args:
        calls: from `agreement.agree`.
        seed: of the order. The same seed gives the same order of the same contenders.
    """
    import torch

    synchronise = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    order = list(calls)
    random.Random(seed).shuffle(order)  # noqa: S311  (an order of measurement, not a secret)
    seconds = {}
    for name in order:
        synchronise()
        start = time.perf_counter()
        calls[name]()
        synchronise()
        seconds[name] = time.perf_counter() - start
    return seconds


def measure(
    calls: Mapping[str, Callable[[], object]], *, repeats: int = 20, warmups: int = 2
) -> dict[str, list[float]]:
    """Time contenders against each other, interleaved, each round in a new random order.

    Args:
        calls: from `agreement.agree`.
        repeats: rounds that count.
        warmups: rounds before them that do not.

    Returns:
        For each name its seconds, one a round.
    """
    rounds = [time_round(calls, seed) for seed in range(warmups + repeats)][warmups:]
    return {name: [seconds[name] for seconds in rounds] for name in calls}


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
