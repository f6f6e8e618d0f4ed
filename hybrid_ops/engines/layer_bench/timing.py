"""Contenders against each other."""

from __future__ import annotations

import functools
import random
import statistics
import time
from collections.abc import Callable, Mapping

from hybrid_ops.engines.layer_bench.clock import Clock


def time_round(calls: Mapping[str, Callable[[], object]], seed: int, device: str = "cpu") -> dict[str, float]:
    """Seconds of each contender, called once, in an order drawn from `seed`.

    Args:
        calls: from `agreement.agree`.
        seed: of the order. The same seed gives the same order of the same contenders.
        device: "cpu", by the wall clock, or "cuda", by the GPU's own events and with a cold L2 cache.
    """
    order = list(calls)
    random.Random(seed).shuffle(order)  # noqa: S311  (an order of measurement, not a secret)
    if device == "cuda":
        return {name: _clock(device).time(calls[name])[0] for name in order}
    return {name: wall_seconds(calls[name]) for name in order}


def wall_seconds(call: Callable[[], object]) -> float:
    """Seconds of one call by the wall clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@functools.cache
def _clock(device: str) -> Clock:
    import torch

    return Clock(torch.device(device))


def measure(
    calls: Mapping[str, Callable[[], object]], *, repeats: int = 20, warmups: int = 2, device: str = "cpu"
) -> dict[str, list[float]]:
    """Time contenders against each other, interleaved, each round in a new random order.

    Args:
        calls: from `agreement.agree`.
        repeats: rounds that count.
        warmups: rounds before them that do not.
        device: as in `time_round`.

    Returns:
        For each name its seconds, one a round.
    """
    rounds = [time_round(calls, seed, device) for seed in range(warmups + repeats)][warmups:]
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
