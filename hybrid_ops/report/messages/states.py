"""What is known of each cell after a run: whether it is worse, could not be measured, or is fine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.history.nights import StoredCell, StoredRun
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict

PACE = "pace"
"""The aspect of all times, rates and ratios of an engine: when it slows down they move together."""
SIZE_DIGITS = 6
"""Digits of a size behind the point: enough for any tolerance, and few enough to keep thousands in a comment."""
NO_RESULTS = "results"
"""The metric of the cell that stands for the results of a whole suite, which a gap leaves unmeasured."""
BASELINE = "baseline"


class Condition(StrEnum):
    """What a verdict means to someone who waits for a message."""

    WORSE = "worse"
    UNMEASURED = "unmeasured"
    FINE = "fine"
    UNDECIDED = "undecided"
    """It was measured, and whether it is worse stays as it was known before."""


CONDITIONS = {
    Verdict.SLOWER: Condition.WORSE,
    Verdict.CHANGED: Condition.WORSE,
    Verdict.UNEXPECTED_SUCCESS: Condition.WORSE,
    Verdict.FAILED_TO_RUN: Condition.UNMEASURED,
    Verdict.INVALID_ENVIRONMENT: Condition.UNMEASURED,
    Verdict.INCONCLUSIVE: Condition.UNDECIDED,
    Verdict.MISSING_BASELINE: Condition.UNDECIDED,
    Verdict.PASS: Condition.FINE,
    Verdict.FASTER: Condition.FINE,
    Verdict.EXPECTED_FAILURE: Condition.FINE,
}

Key = tuple[str, str]
"""Case and metric."""


@dataclass(frozen=True)
class Seen:
    """A cell as one run shows it."""

    case: str
    metric: str
    engine: str
    """The name of its launches."""
    aspect: str
    """`PACE`, or the metric itself, which then moves for reasons of its own."""
    condition: Condition
    verdict: str
    run: str
    unit: str = ""
    direction: str = Direction.NONE.value
    value: Value | None = None
    baseline: Value | None = None
    tolerance: float = 0.0
    reason: str = ""
    suite: str | None = None
    compared_with: str = BASELINE
    """What `baseline` is: as in `CellResult`."""

    @property
    def key(self) -> Key:
        return self.case, self.metric

    @property
    def size(self) -> float | None:
        """How much worse it is than its baseline, as a log-ratio; None where the two are not positive numbers."""
        if isinstance(self.value, str | None) or isinstance(self.baseline, str | None):
            return None
        if self.value <= 0 or self.baseline <= 0:
            return None
        ratio = round(math.log(self.value / self.baseline), SIZE_DIGITS)
        if self.direction == Direction.NONE:
            return abs(ratio)
        return ratio if self.direction == Direction.LOWER else -ratio


@dataclass(frozen=True)
class CellState:
    """What is known of a cell after some runs."""

    seen: Seen
    """As the last run that has the cell shows it."""
    worse_since: str | None = None
    """The first run that showed it worse, while no later one showed it fine."""
    size: float | None = None
    """How much worse the last run that showed it worse had it; None where that is no number."""
    tolerance: float = 0.0
    baseline: Value | None = None
    """What that run compared it with."""
    unmeasured_since: str | None = None
    """The first run that could not measure it, while no later one could."""

    @property
    def is_worse(self) -> bool:
        return self.worse_since is not None

    @property
    def is_unmeasured(self) -> bool:
        return self.unmeasured_since is not None


States = Mapping[Key, CellState]


def states_after(states: States, seen: Iterable[Seen]) -> dict[Key, CellState]:
    """What is known after a further run.

    A cell that is undecided stays as it was known, with two exceptions: a new baseline accepts what was worse, and a
    cell goes with the others of its engine and aspect where none of these is worse now and as many are fine again. Else
    one noisy cell would keep a repaired engine bad for weeks.
    """
    found = {one.key: _next(states.get(one.key), one) for one in seen}
    aspects: dict[tuple[str, str], list[CellState]] = {}
    for key, state in states.items():
        if state.is_worse:
            aspects.setdefault((state.seen.engine, state.seen.aspect), []).append(found.get(key, state))
    for cells in aspects.values():
        open_cells = [state for state in cells if state.is_worse]
        undecided = [
            found.get(state.seen.key) is state and state.seen.condition is Condition.UNDECIDED for state in open_cells
        ]
        if all(undecided) and len(cells) >= 2 * len(open_cells):
            found |= {state.seen.key: CellState(state.seen) for state in open_cells}
    return {**states, **found}


def _next(before: CellState | None, seen: Seen) -> CellState:
    if seen.condition is Condition.WORSE:
        since = before.worse_since if before is not None else None
        return CellState(seen, since or seen.run, seen.size, seen.tolerance, seen.baseline)
    known = CellState(seen)
    if before is not None and seen.condition is not Condition.FINE:
        is_known_no_more = seen.condition is Condition.UNDECIDED and is_accepted(before, seen)
        known = known if is_known_no_more else replace(before, seen=seen, unmeasured_since=None)
    if seen.condition is Condition.UNMEASURED:
        since = before.unmeasured_since if before is not None else None
        return replace(known, unmeasured_since=since or seen.run)
    return known


def is_accepted(before: CellState, seen: Seen) -> bool:
    """Whether a cell that was worse is compared with another baseline now."""
    return before.is_worse and None not in (before.baseline, seen.baseline) and before.baseline != seen.baseline


def is_beyond(size: float | None, told: float | None, tolerance: float) -> bool:
    """Whether something is worse than it was told to be, by more than the tolerance."""
    return size is not None and told is not None and size - told > math.log1p(tolerance) + 10**-SIZE_DIGITS


def seen_in_results(run: RunResults) -> list[Seen]:
    """The cells of a run. One that an update of this run recorded is fine."""
    return [
        _seen(cell, run.run_id, cell.reason, Condition.FINE if cell.recorded else CONDITIONS[cell.verdict])
        for cell in run.cells
    ]


def seen_in_night(run: StoredRun, cells: Iterable[StoredCell]) -> list[Seen]:
    """The cells of a stored run, and one that stands for its suite's results, which a gap lacks."""
    suite = run.suite or ""
    gap = run.problem is not None
    whole = Seen(
        case=suite,
        metric=NO_RESULTS,
        engine=suite,
        aspect=NO_RESULTS,
        condition=Condition.UNMEASURED if gap else Condition.FINE,
        verdict=Verdict.FAILED_TO_RUN if gap else Verdict.PASS,
        run=run.name,
        reason=f"no results: {run.problem}",
        suite=suite,
    )
    return [whole, *(_seen(cell, run.name, cell.reason or "", CONDITIONS[cell.verdict], suite) for cell in cells)]


def _seen(cell: CellResult | StoredCell, run: str, reason: str, condition: Condition, suite: str | None = None) -> Seen:
    moves_with_others = cell.kind != Kind.EXACT and cell.unit != "B"
    return Seen(
        case=cell.case,
        metric=cell.metric,
        engine=cell.engine or cell.case.partition("/")[0],
        aspect=PACE if moves_with_others else cell.metric,
        condition=condition,
        verdict=cell.verdict.value,
        run=run,
        unit=cell.unit,
        direction=cell.direction,
        value=cell.value,
        baseline=cell.baseline,
        tolerance=cell.tolerance or 0.0,
        reason=reason,
        suite=suite,
        compared_with=cell.compared_with if isinstance(cell, CellResult) else BASELINE,
    )
