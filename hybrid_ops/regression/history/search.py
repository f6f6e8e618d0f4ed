"""The changes in the stored nights of a cell: between which runs, whether they are accepted, and what differed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import Direction
from hybrid_ops.regression.history.changes import Change, ChangeKind, drift, steps
from hybrid_ops.regression.history.differences import differences
from hybrid_ops.regression.history.store import History, Point, Series
from hybrid_ops.regression.statistics import false_discovery_threshold

MOST_RUNS = 200
"""The newest runs of a cell that a night looks at."""
FALSE_DISCOVERY_RATE = 0.01
"""The share of false changes among all that a night finds in its cells, as for the verdicts of a run."""


@dataclass(frozen=True)
class FoundChange:
    """A change of a cell, and the nights that it lies between."""

    series: Series
    change: Change
    good: Point
    """The last good night of a step; the first night of a drift's window."""
    bad: Point
    """The first bad night of a step; the last night of a drift's window."""
    gap: int
    """How many runs between the two have no value."""
    is_accepted: bool
    """Whether the baseline has been recorded anew since: then the change is known and wanted, or lived with."""
    is_undone: bool
    """Whether a later step has brought the cell back to where it was."""

    @property
    def is_worse(self) -> bool:
        """Whether it is for the worse; any change of a metric without a direction is."""
        if self.series.direction == Direction.NONE:
            return True
        return (self.change.change > 0) == (self.series.direction == Direction.LOWER)

    @property
    def is_open_regression(self) -> bool:
        """Whether it is for the worse, and nobody has accepted it or undone it."""
        return self.is_worse and not self.is_accepted and not self.is_undone

    def lines(self, history: History) -> list[str]:
        """The change, the nights that it lies between, and what differed, as lines."""
        series, change = self.series, self.change
        good, bad = ("last good", "first bad") if change.kind is ChangeKind.STEP else ("window from", "to")
        gap = f"; {self.gap} between them without a value" if self.gap and change.kind is ChangeKind.STEP else ""
        judged = "worse" if self.is_worse else "better"
        judged += (", accepted since" if self.is_accepted else "") + (", undone since" if self.is_undone else "")
        return [
            f"{series.case} {series.metric} on {series.device}: {change.kind} of {change.change:+.1%} ({judged}), "
            f"{change.before:.6g} to {change.after:.6g} {series.unit}, since {change.start:%Y-%m-%d}",
            f"  {good} {_named(self.good)}, {bad} {_named(self.bad)}{gap}",
            f"  differs: {differences(history.facts(self.good.run), history.facts(self.bad.run))}",
        ]


def find_changes(
    history: History,
    series: Series,
    last: int,
    least_step: float = 0.02,
    least_drift: float = 0.03,
    before: datetime | None = None,
) -> list[FoundChange]:
    """The changes in the newest `last` runs of a cell (`before` a time), steps before a drift.

    Raises InputError without apache-otava.
    """
    everything = history.points(series, last, before)
    points = [point for point in everything if point.value is not None and point.value > 0]
    times, values = [point.started for point in points], [point.value or 0.0 for point in points]
    try:
        found = steps(times, values, least_step)
    except ModuleNotFoundError as error:
        raise InputError(f"change points need apache-otava (the extra `history`): {error}") from error
    slow = drift(times, values, least=least_drift)
    result = []
    for position, change in enumerate([*found, slow] if slow else found):
        good, bad = points[change.index - 1], points[change.index]
        if change.kind is ChangeKind.DRIFT:
            good, bad = points[change.index], points[-1]
        gap = sum(point.value is None for point in everything[everything.index(good) : everything.index(bad)])
        # There is a baseline, and it is no longer the one that the first night of the change was compared with.
        accepted = points[-1].baseline not in (None, points[change.index].baseline)
        undone = any(_undoes(later, change, least_step) for later in found[position + 1 :])
        result.append(FoundChange(series, change, good, bad, gap, accepted, undone))
    return result


def _undoes(later: Change, change: Change, least_step: float) -> bool:
    """Whether a later step ends where a change began, or beyond it, but for less than what counts as a step."""
    back = math.log(change.before / later.after) * (1 if change.change > 0 else -1)
    return back > -math.log1p(least_step)


def open_regressions(history: History, chosen: Sequence[Series], before: datetime | None = None) -> list[FoundChange]:
    """The changes for the worse in any of many cells that nobody has accepted yet, or had not `before` a time.

    A night looks at hundreds of cells, so the share of false ones among what it finds is controlled over all of them,
    each of which is searched for steps and for a drift. Raises InputError without apache-otava.
    """
    found = [change for series in chosen for change in find_changes(history, series, MOST_RUNS, before=before)]
    searches = [change.change.p_value for change in found] + [1.0] * (2 * len(chosen) - len(found))
    level = false_discovery_threshold(searches, FALSE_DISCOVERY_RATE)
    return [change for change in found if change.change.p_value <= level and change.is_open_regression]


def _named(point: Point) -> str:
    return f"{point.run} ({point.started:%Y-%m-%d %H:%M})"
