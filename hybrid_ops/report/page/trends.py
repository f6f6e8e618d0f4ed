"""The nights of each cell out of the history, in a form that stays small for a thousand cells of 200 nights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_ops.errors import InputError
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.history.store import NOT_RECORDED, History, Point, Series
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict

if TYPE_CHECKING:  # scipy.stats takes a second to import, which every other command would wait for
    from hybrid_ops.regression.history.search import FoundChange

LETTERS = {
    Verdict.PASS.value: "p",
    Verdict.SLOWER.value: "s",
    Verdict.FASTER.value: "f",
    Verdict.CHANGED.value: "c",
    Verdict.INCONCLUSIVE.value: "i",
    Verdict.INVALID_ENVIRONMENT.value: "e",
    Verdict.FAILED_TO_RUN.value: "d",
    Verdict.MISSING_BASELINE.value: "m",
    Verdict.EXPECTED_FAILURE.value: "x",
    Verdict.UNEXPECTED_SUCCESS.value: "u",
    NOT_RECORDED: "n",
}
"""One letter for each verdict: the verdicts of 200 nights are a text of 200 letters."""
MOST_NIGHTS = 200
"""How many of the newest runs of a cell are shown, and searched for changes."""
MOST_LETTERS = 40
"""Of a value that is a text."""


@dataclass(frozen=True)
class CellTrend:
    """The nights of one cell, as the scripts read them, and a summary in words."""

    data: dict[str, Any]
    text: str
    is_open_regression: bool
    newest: Point
    series: Series


@dataclass
class Trends:
    """The nights of many cells."""

    cells: dict[tuple[str, str, str], CellTrend] = field(default_factory=dict)
    """By device class, case and metric."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What the cells have in common: the runs, their versions, and which of them a cell was measured in."""
    problem: str | None = None
    """Why there are no nights, or no change points."""


class _Numbers:
    """Numbers for things that many cells share, in the order in which they come."""

    def __init__(self) -> None:
        self.kept: dict[Hashable, int] = {}

    def of(self, thing: Hashable) -> int:
        return self.kept.setdefault(thing, len(self.kept))


class _Collector:
    """Collects the nights of cells out of one store."""

    def __init__(self, history: History, last: int, before: datetime | None) -> None:
        self.history, self.last, self.before = history, last, before
        self.runs, self.versions, self.run_lists = _Numbers(), _Numbers(), _Numbers()
        self.started: dict[str, datetime] = {}
        self.problem: str | None = None

    def trend(self, series: Series, own: Point | None = None) -> CellTrend | None:
        """The nights of one cell, with the point of a run that the history does not have yet; None for no night."""
        points = self.history.points(series, self.last, self.before)
        if own is not None and all(point.run != own.run for point in points):
            points.append(own)
        if not points:
            return None
        self.started |= {point.run: point.started for point in points}
        runs = tuple(self.runs.of(point.run) for point in points)
        changes = self._changes(series)
        data = {
            "runs": self.run_lists.of(runs),
            "values": [_value(point) for point in points],
            "verdicts": "".join(LETTERS[point.verdict] for point in points),
            "baselines": _where_it_changes([(_short(point.baseline), _short(point.tolerance)) for point in points]),
            "changes": [self._change(change) for change in changes],
        }
        is_open = any(change.is_open_regression for change in changes)
        return CellTrend(data, _summary(points, changes), is_open, points[-1], series)

    def _changes(self, series: Series) -> list[FoundChange]:
        from hybrid_ops.regression.history.search import find_changes

        if self.problem is not None:
            return []
        try:
            return find_changes(self.history, series, self.last, before=self.before)
        except InputError as error:  # apache-otava is not installed
            self.problem = str(error)
            return []

    def _change(self, change: FoundChange) -> dict[str, Any]:
        return {
            "kind": change.change.kind.value,
            "run": self.runs.of(change.bad.run if change.change.kind == "step" else change.good.run),
            "before": _short(change.change.before),
            "after": _short(change.change.after),
            "worse": change.is_worse,
            "text": "\n".join(line.strip() for line in change.lines(self.history)),
        }

    def shared(self, own: RunResults | None) -> dict[str, Any]:
        """The runs with their starts and versions, and the lists of runs that cells were measured in."""
        runs = []
        for name in self.runs.kept:
            versions = own.versions if own is not None and name == own.run_id else self._versions(str(name))
            key = self.versions.of(tuple(sorted(versions.items())))
            runs.append([name, self.started[str(name)].isoformat(timespec="seconds"), key])
        return {
            "runs": runs,
            "versions": [dict(kept) for kept in self.versions.kept],  # type: ignore[call-overload]
            "run_lists": [list(kept) for kept in self.run_lists.kept],  # type: ignore[call-overload]
            "letters": {letter: verdict for verdict, letter in LETTERS.items()},
        }

    def _versions(self, run: str) -> dict[str, str]:
        return self.history.facts(run).versions


def trends_of(store: Path, run: RunResults) -> Trends:
    """The nights of a run's cells, until the run itself. A store that cannot be read is said, and is no error."""
    start = datetime.fromisoformat(run.started) if run.started else None
    own = {} if start is None else {(cell.case, cell.metric): _own_point(run, cell, start) for cell in run.cells}

    def chosen(history: History) -> Iterable[tuple[Series, Point | None]]:
        for series in history.series(device=run.device.device_class):
            if (series.case, series.metric) in own:
                yield series, own[series.case, series.metric]

    try:
        return _collect(store, chosen, MOST_NIGHTS, None if start is None else start + timedelta(seconds=1), run)
    except InputError as error:
        return Trends(problem=str(error))


def all_trends(store: Path, chosen: Callable[[History], Sequence[Series]], last: int) -> Trends:
    """The nights of the chosen series of a history. Raises InputError."""
    return _collect(store, lambda history: [(series, None) for series in chosen(history)], last, None, None)


def _collect(
    store: Path,
    chosen: Callable[[History], Iterable[tuple[Series, Point | None]]],
    last: int,
    before: datetime | None,
    own: RunResults | None,
) -> Trends:
    with History(store) as history:
        collector = _Collector(history, last, before)
        found = [collector.trend(series, point) for series, point in chosen(history)]
        cells = {(one.series.device, one.series.case, one.series.metric): one for one in found if one is not None}
        return Trends(cells, collector.shared(own), collector.problem)


def _own_point(run: RunResults, cell: Any, started: datetime) -> Point:
    is_number = isinstance(cell.value, int | float) and cell.verdict.is_measured
    return Point(
        run=run.run_id,
        started=started,
        value=float(cell.value) if is_number else None,
        text=cell.value if isinstance(cell.value, str) and cell.verdict.is_measured else None,
        launches=len(cell.launches),
        verdict=cell.verdict.value,
        baseline=cell.baseline,
        tolerance=cell.tolerance,
    )


def _value(point: Point) -> Value | None:
    return _short(point.text if point.value is None else point.value)


def _short(value: Value | None) -> Value | None:
    """A value in as few letters as a chart needs: six digits, or the beginning of a text."""
    if value is None:
        return None
    if isinstance(value, str):
        return value if len(value) <= MOST_LETTERS else f"{value[: MOST_LETTERS - 1]}…"
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _where_it_changes(values: Sequence[Any]) -> list[list[Any]]:
    """(position, baseline, tolerance) wherever it is another than the night before."""
    return [
        [position, *value] for position, value in enumerate(values) if position == 0 or value != values[position - 1]
    ]


def _summary(points: Sequence[Point], changes: Sequence[FoundChange]) -> str:
    """`31 nights, step +38.2 % on 2026-01-05`: the newest open change, or the newest of all."""
    nights = f"{len(points)} run" + ("" if len(points) == 1 else "s")
    if not changes:
        return nights
    newest = max(changes, key=lambda change: (change.is_open_regression, change.change.start))
    size = f"{newest.change.change:+.1%}".replace("%", " %")
    settled = " (accepted)" if newest.is_accepted else " (undone)" if newest.is_undone else ""
    return f"{nights}, {newest.change.kind} {size} since {newest.change.start:%Y-%m-%d}{settled}"
