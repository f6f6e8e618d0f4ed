"""Contenders against each other."""

from __future__ import annotations

import functools
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

L2_TIMES = 2
"""How many times the L2 cache's size is written between two contenders on a GPU, so that none of what they share is
left in it."""


def time_round(calls: Mapping[str, Callable[[], object]], seed: int, device: str = "cpu") -> dict[str, float]:
    """Seconds of each contender, called once, in an order drawn from `seed`.

    Args:
        calls: from `agreement.agree`.
        seed: of the order. The same seed gives the same order of the same contenders.
        device: "cpu", by the wall clock, or "cuda", by the GPU's own events and with a cold L2 cache.
    """
    order = list(calls)
    random.Random(seed).shuffle(order)  # noqa: S311  (an order of measurement, not a secret)
    seconds_of = event_seconds if device == "cuda" else wall_seconds
    return {name: seconds_of(calls[name]) for name in order}


def wall_seconds(call: Callable[[], object]) -> float:
    """Seconds of one call by the wall clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def event_seconds(call: Callable[[], object], device: str = "cuda") -> float:
    """Seconds that the GPU took for one call, between two events in its stream, with a cold L2 cache.

    The cache is cleared in the same stream, which also gives the host time to send what it is to be timed on: a kernel
    that waits for Python would count as slow.
    """
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    _beyond_l2(device).zero_()
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


@functools.cache
def _beyond_l2(device: str) -> Any:
    """Memory of more bytes than the L2 cache holds."""
    import torch

    size = L2_TIMES * torch.cuda.get_device_properties(0).L2_cache_size
    return torch.empty(size, dtype=torch.uint8, device=device)


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
