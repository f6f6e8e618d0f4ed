"""Warm-up: the early iterations of a launch that still drift are not samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MAD_TO_DEVIATION = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""


@dataclass(frozen=True)
class WarmUp:
    """What the start of a launch looks like."""

    iterations: int
    """How many early iterations are not samples: never more than half of them."""
    drift: float
    """The relative change from the first third of the remaining iterations to the last."""
    drifting: bool
    """The remaining iterations still move by more than their own scatter: the launch has not settled."""


def warm_up(samples: Sequence[float], band: float = 3.0) -> WarmUp:
    """Find the warm-up of one launch from its iterations (positive, in order, any unit).

    The second half of the launch tells where it settles: its median, and its scatter as the median absolute deviation.
    The leading iterations that lie more than `band` deviations away are warm-up, with lone ones between them. Only what
    leads is dropped: a slow iteration later on is a sample. Raises ValueError for a sample that is not positive.
    """
    if any(not math.isfinite(value) or value <= 0 for value in samples):
        raise ValueError("an iteration that is not a positive number is no measurement")
    if len(samples) < 6:
        return WarmUp(0, 0.0, False)
    logs = [math.log(value) for value in samples]
    settled = logs[len(logs) // 2 :]
    centre = statistics.median(settled)
    deviation = MAD_TO_DEVIATION * statistics.median(abs(value - centre) for value in settled)
    # A clock's resolution can make half of the iterations equal: below a thousandth nothing is a drift.
    limit = band * max(deviation, 1e-3)
    outside = [abs(value - centre) > limit for value in logs]
    count = 0
    for index in range(len(logs) // 2):
        if outside[index]:
            count = index + 1
        elif index > count:
            break
    rest = logs[count:]
    third = len(rest) // 3
    drift = statistics.median(rest[-third:]) - statistics.median(rest[:third])
    return WarmUp(count, math.expm1(drift), abs(drift) > limit)
