"""Values of metrics: of an iteration, and of a launch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import median

import numpy as np

Value = float | int | str
"""A metric's value: a number, or a hash."""
PERCENTILES = (50, 90, 95, 99)


class NotAMeasurement(ValueError):
    """A sample that must not count: incomplete, zero, not finite, or not repeatable where it has to be."""


def bound_name(metric: str) -> str:
    """Under what name an iteration gives the bound of a bounded metric."""
    return f"{metric}_bound"


def summarize_launch(iterations: Sequence[Mapping[str, Value]], exact: Collection[str]) -> dict[str, Value]:
    """One value a metric for a launch: the median of its timed iterations.

    The metrics named in `exact` must be the same in each of them, or the launch is not a measurement.
    """
    values: dict[str, Value] = {}
    for name in iterations[0]:
        seen = [iteration[name] for iteration in iterations]
        if name in exact:
            if len(set(seen)) != 1:
                different = sorted(set(map(str, seen)))
                raise NotAMeasurement(f"{name} must repeat exactly but was {different} within a launch")
            values[name] = seen[0]
        else:
            values[name] = median(float(value) for value in seen)
    return values


def refuse_unmeasured(values: Mapping[str, Value]) -> None:
    """Raise NotAMeasurement for a number that is not finite or not above 0."""
    for name, value in values.items():
        if not isinstance(value, str) and not (math.isfinite(value) and value > 0):
            raise NotAMeasurement(f"{name} is {value}")


def percentiles(suffix: str, milliseconds: Sequence[float]) -> dict[str, Value]:
    """Median, p90, p95 and p99, by linear interpolation as in vLLM's own benchmarks."""
    return {
        f"{'median' if percent == 50 else f'p{percent}'}_{suffix}": float(np.percentile(milliseconds, percent))
        for percent in PERCENTILES
    }
