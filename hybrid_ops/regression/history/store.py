"""The history: every cell of every run, in one SQLite file. `docs/judging.md` describes its tables."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from hybrid_ops.errors import InputError
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults

SCHEMA_VERSION = 1

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
        if version == 0 and tables == 0:
            self._connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise InputError(f"{self.path}: a history of schema {version}, and this version reads {SCHEMA_VERSION}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self.path}: not a history that can be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, run: RunResults) -> int:
        """Add the cells of one run and return how many; a run already there adds 0, and so does one without a launch.

        All of a run is added or nothing. A run that does not name its time zone was made in that of this machine.
        """
        if not run.started:
            return 0
        device, started = run.device.device_class, datetime.fromisoformat(run.started).timestamp()
        with self._errors(), self._connection:
            if self._connection.execute("SELECT 1 FROM run WHERE name = ?", (run.run_id,)).fetchone():
                return 0
            cursor = self._connection.execute(
                "INSERT INTO run (name, started, device, versions) VALUES (?, ?, ?, ?)",
                (run.run_id, started, device, json.dumps(run.versions, sort_keys=True)),
            )
            rows = [
                (
                    self._series_of(device, cell),
                    started,
                    cursor.lastrowid,
                    _number(cell.value),
                    cell.value if isinstance(cell.value, str) else None,
                    len(cell.launches),
                    cell.verdict,
                )
                for cell in run.cells
            ]
            self._connection.executemany("INSERT INTO point VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return len(rows)

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
        """The points of a series, oldest first; `last` keeps the newest so many."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT run.name, point.started, value, text, launches, verdict FROM point JOIN run ON run.id = run "
                "WHERE series = ? ORDER BY point.started DESC, run DESC LIMIT ?",
                (series.identifier, -1 if last is None else last),
            ).fetchall()
        return [Point(name, datetime.fromtimestamp(when, UTC), *rest) for name, when, *rest in reversed(rows)]

    def count(self) -> int:
        """How many points there are."""
        with self._errors():
            return int(self._connection.execute("SELECT count(*) FROM point").fetchone()[0])


def _number(value: Value | None) -> float | None:
    """The value if it is a finite number."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value)
