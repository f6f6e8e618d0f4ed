"""No engine is faster that answers wrongly: the guard of a cell's launches has the last word on `faster`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Direction, Metric
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.measure.values import Value, bound_name
from hybrid_ops.regression.judge import Judgement
from hybrid_ops.regression.verdicts import Verdict


class Doubt(NamedTuple):
    """Why an engine's answers are not to be believed."""

    verdict: Verdict
    reason: str


def doubt(guard: Case | None, launches: Iterable[LaunchRecord]) -> Doubt | None:
    """What the guard of these launches has against them; None where it has nothing, or there is none."""
    if guard is None:
        return None
    for record in launches:
        seen = record.cases.get(guard.id)
        if seen is None:
            continue
        if seen.error is not None:
            return Doubt(Verdict.FAILED_TO_RUN, f"its answers could not be checked ({guard.id}: {seen.error})")
        for metric in guard.procedure.metrics_of(guard):
            value, bound = seen.values.get(metric.name), seen.values.get(bound_name(metric.name))
            if value is not None and bound is not None and _is_beyond(metric, value, bound):
                allowed = "at most" if metric.direction is Direction.LOWER else "at least"
                return Doubt(
                    Verdict.CHANGED,
                    f"its answers are wrong in launch {record.index}: {guard.id} {metric.name} is "
                    f"{float(value):.4g} {metric.unit}, {allowed} {float(bound):.4g} is allowed",
                )
    return None


def _is_beyond(metric: Metric, value: Value, bound: Value) -> bool:
    distance = float(value) - float(bound)
    return distance > 0 if metric.direction is Direction.LOWER else distance < 0


def guarded(judgement: Judgement, found: Doubt | None) -> Judgement:
    """The judgement, unless it says faster of an engine that is in doubt."""
    if judgement.verdict is not Verdict.FASTER or found is None:
        return judgement
    change = "" if judgement.change is None else f" ({judgement.change:+.1%})"
    return replace(
        judgement, verdict=found.verdict, decided=True, reason=f"The engine is faster{change}, but {found.reason}."
    )
