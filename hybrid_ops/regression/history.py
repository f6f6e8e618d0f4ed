"""The history: every cell of every run, in one SQLite file. `docs/judging.md` describes its tables."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCHEMA_VERSION = 1
RESULTS_SCHEMA = 1

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


class HistoryError(Exception):
    """The history, or a results file meant for it, cannot be used; the message is one line that says why."""


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
    """An embedded store of results. Use it as a context manager; every failure is a HistoryError."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the store, or make an empty one if `create` and there is none."""
        self.path = path
        if not path.is_file() and not create:
            raise HistoryError(f"no history at {path}: add a results.json first")
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
            raise HistoryError(f"the history {self.path} has schema {version}, and this version reads {SCHEMA_VERSION}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(f"the history {self.path} cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, results: Mapping[str, Any]) -> int:
        """Add the cells of one run (the content of its results.json) and return how many; a run already there adds 0.

        All of a run is added or nothing.
        """
        run, started, device, versions, cells = _read_results(results)
        with self._errors(), self._connection:
            known = self._connection.execute("SELECT 1 FROM run WHERE name = ?", (run,)).fetchone()
            if known:
                return 0
            cursor = self._connection.execute(
                "INSERT INTO run (name, started, device, versions) VALUES (?, ?, ?, ?)",
                (run, started.timestamp(), device, versions),
            )
            rows = [
                (self._series_of(device, cell), started.timestamp(), cursor.lastrowid, *_content(cell))
                for cell in cells
            ]
            self._connection.executemany("INSERT INTO point VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return len(rows)

    def _series_of(self, device: str, cell: Mapping[str, Any]) -> int:
        """The identifier of a cell's series, made if there is none; unit, kind and direction follow the newest run."""
        row = self._connection.execute(
            "INSERT INTO series (device, cell, metric, unit, kind, direction) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (device, cell, metric) DO UPDATE SET unit = excluded.unit, kind = excluded.kind, "
            "direction = excluded.direction RETURNING id",
            (device, *(str(cell[name]) for name in ("case", "metric", "unit", "kind", "direction"))),
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


def read_results(path: Path) -> Mapping[str, Any]:
    """The content of a results.json. Raises HistoryError if it cannot be read or is no JSON object."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(f"the results {path} cannot be read: {error}") from error
    if not isinstance(results, dict):
        raise HistoryError(f"the results {path} are not a JSON object")
    return results


def _read_results(results: Mapping[str, Any]) -> tuple[str, datetime, str, str, Sequence[Mapping[str, Any]]]:
    """The parts of a results.json that are kept; a HistoryError names what is wrong with it."""
    if results.get("schema") != RESULTS_SCHEMA:
        raise HistoryError(f"results of schema {results.get('schema')!r} cannot be added, only of {RESULTS_SCHEMA}")
    try:
        started = datetime.fromisoformat(results["started"])
        run, device, cells = str(results["run_id"]), str(results["device"]["class"]), results["cells"]
        for cell in cells:
            missing = {"case", "metric", "unit", "kind", "direction", "value", "launches", "verdict"} - set(cell)
            if missing:
                raise ValueError(f"a cell lacks {', '.join(sorted(missing))}")
            if not isinstance(cell["value"], int | float | str | None) or not isinstance(cell["launches"], list):
                raise ValueError(f"the cell {cell['case']} {cell['metric']} has no readable value and launches")
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise HistoryError(f"results that are not complete cannot be added: {problem}") from error
    # A run that does not name its time zone was made in that of the machine that adds it.
    return run, started.astimezone(), device, json.dumps(results.get("versions", {}), sort_keys=True), cells


def _content(cell: Mapping[str, Any]) -> tuple[float | None, str | None, int, str]:
    """Value, text, number of launches and verdict of a cell; a number that is not finite is no value."""
    value = cell["value"]
    if isinstance(value, str):
        number, text = None, value
    else:
        number, text = (float(value) if value is not None and math.isfinite(value) else None), None
    return number, text, len(cell["launches"]), str(cell["verdict"])
