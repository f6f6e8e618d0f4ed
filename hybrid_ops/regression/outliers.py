"""Outlier launches: shown beside the verdict, never dropped from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_ops.measure.warmup import MAD_TO_DEVIATION


@dataclass(frozen=True)
class Outlier:
    """A launch that lies far from the others of its cell."""

    launch: int
    """Its position among the values given, from 0."""
    value: float
    change: float
    """Relative to the median of all launches."""
    deviations: float
    """Its distance in robust standard deviations."""


def outlier_launches(values: Sequence[float], noise: float, limit: float = 3.5) -> list[Outlier]:
    """The launches further than `limit` robust standard deviations from the median of their cell.

    The modified z-score (Iglewicz and Hoaglin 1993) on logs of positive values; `noise` is the launch noise that the
    judge reckons with (a deviation of log values) and bounds the scatter from below, because the median absolute
    deviation of three or four launches can be nearly zero by chance. Fewer than three launches have no outlier.
    """
    if len(values) < 3:
        return []
    logs = [math.log(value) for value in values]
    centre = statistics.median(logs)
    scatter = MAD_TO_DEVIATION * statistics.median(abs(value - centre) for value in logs)
    deviation = max(scatter, noise)
    if deviation == 0:
        return []
    return [
        Outlier(launch, value, math.expm1(log - centre), abs(log - centre) / deviation)
        for launch, (value, log) in enumerate(zip(values, logs))
        if abs(log - centre) > limit * deviation
    ]
