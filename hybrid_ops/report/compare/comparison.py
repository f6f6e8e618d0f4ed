"""Two sides cell by cell: ratios with intervals from the judge, what is missing, and what must not be compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.measure.procedures import find_metric
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.history.differences import differences
from hybrid_ops.regression.judge import Evidence, Judgement, Settings, judge_run
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.compare.sides import Key, Side, SideCell

WORSE = (Verdict.SLOWER, Verdict.CHANGED)
"""Verdicts that a caller must look at."""


@dataclass(frozen=True)
class Row:
    """A cell that both sides have."""

    case: str
    metric: str
    unit: str
    kind: Kind
    before: Value | None
    after: Value | None
    ratio: float | None
    """After over before; None where there is nothing to divide."""
    interval: tuple[float, float] | None
    """Of the ratio."""
    verdict: Verdict
    launches: tuple[int, int]
    reason: str


@dataclass(frozen=True)
class Mean:
    """The geometric mean of the ratios of one metric over the cases of one model."""

    model: str
    metric: str
    ratio: float
    cases: int


@dataclass(frozen=True)
class Comparison:
    """One side against another."""

    before: Side
    after: Side
    rows: Sequence[Row]
    means: Sequence[Mean]
    refused: Sequence[str]
    """Cases that are defined otherwise on the two sides."""
    only_before: Sequence[str]
    only_after: Sequence[str]
    unmeasured: Sequence[str]
    """Cells that a side has without a value, and why."""
    differs: str
    """What else differs: versions, machine, arguments, command."""

    @property
    def is_worse(self) -> bool:
        return any(row.verdict in WORSE for row in self.rows)


def compare(
    before: Side, after: Side, tolerance: float, across_definitions: bool, chosen: Callable[[Key], bool]
) -> Comparison:
    """`after` against `before` over the chosen cells.

    The judge's rule with a stored baseline decides: `before` stands for the baseline's launches. `tolerance` is the
    relative change that still passes; with 0 each cell is better, worse or undecided. Cases with another definition are
    left out unless `across_definitions`.
    """
    shared = [key for key in before.cells if key in after.cells and chosen(key)]
    defined_otherwise = [key for key in shared if _differ(before.cells[key], after.cells[key])]
    refused = [] if across_definitions else list(dict.fromkeys(case for case, _ in defined_otherwise))
    unmeasured = [
        f"{case} {metric}: {side.name}: {problem}"
        for case, metric in shared
        for side in (before, after)
        if (problem := side.cells[case, metric].problem) is not None
    ]
    judged = [
        key
        for key in shared
        if (across_definitions or key not in defined_otherwise)
        and before.cells[key].problem is None
        and after.cells[key].problem is None
    ]
    settings = Settings.for_platform(after.platform or "")
    evidence = [_evidence(key[1], before.cells[key], after.cells[key], tolerance) for key in judged]
    judgements = judge_run(evidence, settings, budget_left=False)
    rows = [_row(key, before.cells[key], after.cells[key], told) for key, told in zip(judged, judgements)]
    return Comparison(
        before,
        after,
        rows,
        _means(rows),
        refused,
        _names(before, after, chosen),
        _names(after, before, chosen),
        unmeasured,
        differences(before.facts, after.facts),
    )


def _differ(before: SideCell, after: SideCell) -> bool:
    if before.kind is not after.kind or before.unit != after.unit:
        return True
    return None not in (before.definition, after.definition) and before.definition != after.definition


def _names(side: Side, other: Side, chosen: Callable[[Key], bool]) -> list[str]:
    """The cells of one side alone; a case that the other has nothing of by its own name."""
    others = {case for case, _ in other.cells}
    missing = [key for key in side.cells if key not in other.cells and chosen(key)]
    return list(dict.fromkeys(f"{case} {metric}" if case in others else case for case, metric in missing))


def _evidence(metric: str, before: SideCell, after: SideCell, tolerance: float) -> Evidence:
    known = find_metric(metric)
    return Evidence(
        after.kind,
        after.direction,
        after.launches,
        before.launches,
        0.0 if after.kind is Kind.EXACT else tolerance,
        bounds=() if after.bound is None else (after.bound,) * len(after.launches),
        is_tokens=known is not None and known.is_tokens,
        rounding=max(before.rounding, after.rounding),
    )


def _row(key: Key, before: SideCell, after: SideCell, told: Judgement) -> Row:
    interval = told.interval and (math.exp(told.interval[0]), math.exp(told.interval[1]))
    return Row(
        *key,
        after.unit,
        after.kind,
        told.baseline if after.bound is None else before.launches[-1],
        told.value,
        None if told.change is None else 1 + told.change,
        interval,
        told.verdict,
        (len(before.launches), len(after.launches)),
        told.reason,
    )


def _means(rows: Sequence[Row]) -> list[Mean]:
    logs: dict[Key, list[float]] = {}
    for row in rows:
        if row.kind is not Kind.EXACT and row.ratio is not None and row.ratio > 0:
            logs.setdefault((row.case.partition("/")[0], row.metric), []).append(math.log(row.ratio))
    return [Mean(*key, math.exp(math.fsum(found) / len(found)), len(found)) for key, found in logs.items()]
