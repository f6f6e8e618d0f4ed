"""The history: every cell of every run, in one SQLite file. `docs/judging.md` describes its tables."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hybrid_ops.errors import CannotWrite, InputError, refuses_to_be_written
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.history.schema import prepare
from hybrid_ops.regression.results import RunResults
from hybrid_ops.workloads.base import definition_hash

NOT_RECORDED = "not recorded"
"""The verdict of a run that left no results at all, in the gap that it leaves."""


@dataclass(frozen=True)
class Series:
    """A cell on one device class."""

    identifier: int
    device: str
    case: str
    metric: str
    unit: str
    kind: str
    direction: str


@dataclass(frozen=True)
class Point:
    """What one run said of a cell."""

    run: str
    started: datetime
    value: float | None
    """A number, or None for a text or for nothing measured."""
    text: str | None
    launches: int
    verdict: str
    baseline: Value | None = None
    tolerance: float | None = None
    """What it was compared with, and how far apart the two may be."""


@dataclass(frozen=True)
class RunFacts:
    """What is kept of a run beside its values: all that can differ between two nights."""

    name: str
    started: datetime
    versions: dict[str, str]
    machine: dict[str, Any]
    """The device and machine, by field; empty for a run that was kept before these were."""
    command: str | None
    setups: dict[str, dict[str, Any]]
    """The arguments and the environment of each launch, by its name."""

    @classmethod
    def of(cls, run: RunResults) -> RunFacts:
        """What is to be kept of a run. One that does not name its time zone was made in that of this machine."""
        return cls(
            name=run.run_id,
            started=datetime.fromisoformat(run.started) if run.started else datetime.fromtimestamp(0, UTC),
            versions=run.versions,
            machine=run.device.model_dump(mode="json", exclude={"platform", "device_class", "peaks", "settings"})
            | run.device.settings,
            command=run.command,
            setups=_setups(run),
        )


class History:
    """An embedded store of results. Use it as a context manager; whatever fails raises InputError."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the store, or make an empty one if `create` and there is none."""
        self.path = path
        if not path.is_file() and not create:
            raise InputError(f"{path}: no history is there: add a results.json first")
        with self._errors():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path)
            try:
                prepare(self._connection, path)
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if refuses_to_be_written(error):
                raise CannotWrite(f"{self.path}: the history cannot be written: {error}") from error
            raise InputError(f"{self.path}: not a history that can be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, run: RunResults, suite: str | None = None) -> int:
        """Add the cells of one run and return how many; a run already there adds 0, and so does one without a launch.

        All of a run is added or nothing. A cell that could not be measured has no value. `suite` tells whose gaps are
        whose (`add_gap`).
        """
        if not run.started:
            return 0
        facts, device = RunFacts.of(run), run.device.device_class
        started = facts.started.timestamp()
        with self._errors(), self._connection:
            if self._connection.execute("SELECT 1 FROM run WHERE name = ?", (run.run_id,)).fetchone():
                return 0
            cost = run.cost
            cursor = self._connection.execute(
                "INSERT INTO run (name, started, device, versions, machine, command, suite, seconds, gpu_seconds) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(run.run_id, started, device, _json(facts.versions), _json(facts.machine), run.command, suite),
                    *((None, None) if cost is None else (cost.seconds, cost.gpu_seconds)),
                ),
            )
            self._connection.executemany(
                "INSERT INTO spent (run, engine, launches, seconds, gpu_seconds) VALUES (?, ?, ?, ?, ?)",
                [
                    (cursor.lastrowid, one.engine, one.launches, one.seconds, one.gpu_seconds)
                    for one in (() if cost is None else cost.engines)
                ],
            )
            for name, setup in facts.setups.items():
                document = _json(setup)
                digest = definition_hash(document)
                self._connection.execute("INSERT OR IGNORE INTO setup VALUES (?, ?)", (digest, document))
                self._connection.execute("INSERT INTO launch VALUES (?, ?, ?)", (cursor.lastrowid, name, digest))
            rows = [
                (
                    self._series_of(device, cell),
                    started,
                    cursor.lastrowid,
                    _number(cell.value) if cell.verdict.is_measured else None,
                    cell.value if isinstance(cell.value, str) and cell.verdict.is_measured else None,
                    len(cell.launches),
                    cell.verdict,
                    cell.baseline,
                    cell.tolerance,
                    None if cell.verdict.is_measured else cell.reason,
                )
                for cell in run.cells
            ]
            self._connection.executemany(
                "INSERT INTO point (series, started, run, value, text, launches, verdict, baseline, tolerance, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        return len(rows)

    def add_gap(self, name: str, started: datetime, suite: str, problem: str) -> None:
        """Add a run that left no results. It shows as a gap in every cell that its suite has measured before."""
        with self._errors(), self._connection:
            self._connection.execute(
                "INSERT INTO run (name, started, device, versions, suite, problem) VALUES (?, ?, '', '{}', ?, ?)",
                (name, started.timestamp(), suite, problem),
            )

    def _series_of(self, device: str, cell: CellResult) -> int:
        """The identifier of a cell's series, made if there is none; its unit and the like follow the newest run."""
        row = self._connection.execute(
            "INSERT INTO series (device, cell, metric, unit, kind, direction, engine) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (device, cell, metric) DO UPDATE SET unit = excluded.unit, kind = excluded.kind, "
            "direction = excluded.direction, engine = excluded.engine RETURNING id",
            (device, cell.case, cell.metric, cell.unit, cell.kind, cell.direction, cell.engine),
        ).fetchone()
        return int(row[0])

    def series(self, *, case: str | None = None, metric: str | None = None, device: str | None = None) -> list[Series]:
        """The series whose case, metric and device class match (`*` and `?` stand for any text and any letter)."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT id, device, cell, metric, unit, kind, direction FROM series "
                "WHERE cell GLOB ? AND metric GLOB ? AND device GLOB ? ORDER BY device, cell, metric",
                (case or "*", metric or "*", device or "*"),
            ).fetchall()
        return [Series(*row) for row in rows]

    def points(self, series: Series, last: int | None = None, before: datetime | None = None) -> list[Point]:
        """The points of a series (`before` a time), oldest first; `last` keeps the newest so many.

        A run without results is one too.
        """
        with self._errors():
            rows = self._connection.execute(
                "SELECT name, point.started AS at, value, text, launches, verdict, baseline, tolerance "
                "FROM point JOIN run ON run.id = run WHERE series = :series AND point.started < :before "
                "UNION ALL SELECT name, started, NULL, NULL, 0, :gap, NULL, NULL FROM run WHERE problem IS NOT NULL "
                "AND suite IN (SELECT suite FROM point JOIN run ON run.id = run WHERE series = :series) "
                "AND started > (SELECT min(started) FROM point WHERE series = :series) AND started < :before "
                "ORDER BY at DESC, name DESC LIMIT :last",
                {
                    "series": series.identifier,
                    "gap": NOT_RECORDED,
                    "last": -1 if last is None else last,
                    "before": math.inf if before is None else before.timestamp(),
                },
            ).fetchall()
        return [Point(name, datetime.fromtimestamp(when, UTC), *rest) for name, when, *rest in reversed(rows)]

    def cells(self, run: str) -> list[tuple[Series, Point]]:
        """The cells of one run. Raises InputError for a run that is not there or has no results."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT series.id, series.device, cell, metric, unit, kind, direction, name, point.started, value, "
                "text, launches, verdict, baseline FROM point "
                "JOIN series ON series.id = series JOIN run ON run.id = run "
                "WHERE name = ? ORDER BY cell, metric",
                (run,),
            ).fetchall()
        if not rows:
            raise InputError(f"{self.path}: no run {run!r} with results; hybrid-perf history show lists the runs")
        return [(Series(*row[:7]), Point(row[7], datetime.fromtimestamp(row[8], UTC), *row[9:])) for row in rows]

    def facts(self, run: str) -> RunFacts:
        """What is kept of a run that is there."""
        with self._errors():
            key, started, versions, machine, command = self._connection.execute(
                "SELECT id, started, versions, machine, command FROM run WHERE name = ?", (run,)
            ).fetchone()
            setups = self._connection.execute(
                "SELECT name, document FROM launch JOIN setup ON hash = setup WHERE run = ? ORDER BY name", (key,)
            ).fetchall()
        return RunFacts(
            name=run,
            started=datetime.fromtimestamp(started, UTC),
            versions=json.loads(versions),
            machine=json.loads(machine or "{}"),
            command=command,
            setups={name: json.loads(document) for name, document in setups},
        )

    def run_before(self, run: str) -> str | None:
        """The newest run before a run that has results, of the same suite on the same device class; None for none."""
        with self._errors():
            row = self._connection.execute(
                "SELECT earlier.name FROM run AS earlier JOIN run AS own ON own.name = ? WHERE earlier.problem IS NULL "
                "AND earlier.suite IS own.suite AND earlier.device = own.device AND earlier.started < own.started "
                "ORDER BY earlier.started DESC, earlier.name DESC LIMIT 1",
                (run,),
            ).fetchone()
        return None if row is None else row[0]

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query, for the modules beside this one."""
        with self._errors():
            return self._connection.execute(query, parameters).fetchall()

    def write(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Make a change, whole and lasting, for the modules beside this one."""
        with self._errors(), self._connection:
            self._connection.execute(statement, parameters)

    def count(self) -> int:
        """How many points there are."""
        with self._errors():
            return int(self._connection.execute("SELECT count(*) FROM point").fetchone()[0])


def _json(document: Any) -> str:
    return json.dumps(document, sort_keys=True)


def _setups(run: RunResults) -> dict[str, dict[str, Any]]:
    """How each launch was started, by its name; both arms of a comparison, told apart by theirs."""
    setups = {}
    for record in run.launches:
        for launch, arm in zip(record.launches, ("", " (b)")):
            setups[record.launch_name + arm] = {"arguments": launch.arguments, "environment": launch.environment}
    return setups


def _number(value: Value | None) -> float | None:
    """The value if it is a finite number."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value)
