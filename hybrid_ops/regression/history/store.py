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
from hybrid_ops.regression.results import RunResults
from hybrid_ops.workloads.base import definition_hash

SCHEMA_VERSION = 3
NOT_RECORDED = "not recorded"
"""The verdict of a run that left no results at all, in the gap that it leaves."""

_TABLES = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    started REAL NOT NULL,
    device TEXT NOT NULL,
    versions TEXT NOT NULL
);
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    cell TEXT NOT NULL,
    metric TEXT NOT NULL,
    unit TEXT NOT NULL,
    kind TEXT NOT NULL,
    direction TEXT NOT NULL,
    UNIQUE (device, cell, metric)
);
CREATE TABLE point (
    series INTEGER NOT NULL REFERENCES series,
    started REAL NOT NULL,
    run INTEGER NOT NULL REFERENCES run,
    value REAL,
    text TEXT,
    launches INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    PRIMARY KEY (series, started, run)
) WITHOUT ROWID;
"""
_MIGRATIONS = {
    1: """
ALTER TABLE run ADD COLUMN machine TEXT;
ALTER TABLE run ADD COLUMN command TEXT;
ALTER TABLE run ADD COLUMN suite TEXT;
ALTER TABLE run ADD COLUMN problem TEXT;
ALTER TABLE point ADD COLUMN baseline;
UPDATE point SET value = NULL, text = NULL WHERE verdict IN ('failed-to-run', 'invalid-environment');
CREATE TABLE setup (hash TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE launch (
    run INTEGER NOT NULL REFERENCES run,
    name TEXT NOT NULL,
    setup TEXT NOT NULL REFERENCES setup,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
""",
    2: """
ALTER TABLE run ADD COLUMN seconds REAL;
ALTER TABLE run ADD COLUMN gpu_seconds REAL;
CREATE TABLE spent (
    run INTEGER NOT NULL REFERENCES run,
    engine TEXT NOT NULL,
    launches INTEGER NOT NULL,
    seconds REAL NOT NULL,
    gpu_seconds REAL,
    PRIMARY KEY (run, engine)
) WITHOUT ROWID;
""",
}
"""What makes the next version of each older one. A new store goes through all of them, so that there is one way to the
newest. `baseline` has no type, because it is a number or a text. `spent` has what the launches of an engine took; a run
whose cost is not known has no seconds, and no row there (`costs.py`)."""


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
    """What it was compared with."""


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
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        script = ""
        if version == 0 and tables == 0:
            script, version = _TABLES, 1
        if not 1 <= version <= SCHEMA_VERSION:
            raise InputError(f"{self.path}: a history of schema {version}, and this version reads {SCHEMA_VERSION}")
        script += "".join(_MIGRATIONS[older] for older in range(version, SCHEMA_VERSION))
        if script:
            self._connection.executescript(f"BEGIN; {script} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

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

        All of a run is added or nothing. A cell that could not be measured has no value. A run that does not name its
        time zone was made in that of this machine. `suite` tells whose gaps are whose (`add_gap`).
        """
        if not run.started:
            return 0
        device, started = run.device.device_class, datetime.fromisoformat(run.started).timestamp()
        machine = run.device.model_dump(mode="json", exclude={"platform", "device_class", "peaks"})
        with self._errors(), self._connection:
            if self._connection.execute("SELECT 1 FROM run WHERE name = ?", (run.run_id,)).fetchone():
                return 0
            cost = run.cost
            cursor = self._connection.execute(
                "INSERT INTO run (name, started, device, versions, machine, command, suite, seconds, gpu_seconds) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(run.run_id, started, device, _json(run.versions), _json(machine), run.command, suite),
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
            for name, document in _setups(run).items():
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
                )
                for cell in run.cells
            ]
            self._connection.executemany(
                "INSERT INTO point (series, started, run, value, text, launches, verdict, baseline) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
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
        """The identifier of a cell's series, made if there is none; unit, kind and direction follow the newest run."""
        row = self._connection.execute(
            "INSERT INTO series (device, cell, metric, unit, kind, direction) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (device, cell, metric) DO UPDATE SET unit = excluded.unit, kind = excluded.kind, "
            "direction = excluded.direction RETURNING id",
            (device, cell.case, cell.metric, cell.unit, cell.kind, cell.direction),
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

    def points(self, series: Series, last: int | None = None) -> list[Point]:
        """The points of a series, oldest first; `last` keeps the newest so many. A run without results is one too."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT name, point.started AS at, value, text, launches, verdict, baseline "
                "FROM point JOIN run ON run.id = run WHERE series = :series "
                "UNION ALL SELECT name, started, NULL, NULL, 0, :gap, NULL FROM run WHERE problem IS NOT NULL "
                "AND suite IN (SELECT suite FROM point JOIN run ON run.id = run WHERE series = :series) "
                "AND started > (SELECT min(started) FROM point WHERE series = :series) "
                "ORDER BY at DESC, name DESC LIMIT :last",
                {"series": series.identifier, "gap": NOT_RECORDED, "last": -1 if last is None else last},
            ).fetchall()
        return [Point(name, datetime.fromtimestamp(when, UTC), *rest) for name, when, *rest in reversed(rows)]

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

    def count(self) -> int:
        """How many points there are."""
        with self._errors():
            return int(self._connection.execute("SELECT count(*) FROM point").fetchone()[0])


def _json(document: Any) -> str:
    return json.dumps(document, sort_keys=True)


def _setups(run: RunResults) -> dict[str, str]:
    """How each launch was started, as JSON by its name; both arms of a comparison, told apart by theirs."""
    setups = {}
    for record in run.launches:
        for launch, arm in zip(record.launches, ("", " (b)")):
            setups[record.launch_name + arm] = _json({"arguments": launch.arguments, "environment": launch.environment})
    return setups


def _number(value: Value | None) -> float | None:
    """The value if it is a finite number."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value)
