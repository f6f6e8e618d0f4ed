"""The tables of the history, and what carries an older store over. `docs/judging.md` describes them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hybrid_ops.errors import InputError

SCHEMA_VERSION = 3
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
ALTER TABLE series ADD COLUMN engine TEXT;
ALTER TABLE point ADD COLUMN tolerance REAL;
ALTER TABLE point ADD COLUMN reason TEXT;
CREATE TABLE told (
    receiver TEXT NOT NULL,
    device TEXT NOT NULL,
    night TEXT NOT NULL,
    PRIMARY KEY (receiver, device)
) WITHOUT ROWID;
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
newest. `baseline` has no type, because it is a number or a text. `reason` is kept of what could not be measured.
`spent` has what the launches of an engine took; a run whose cost is not known has no seconds, and no row there
(`costs.py`). `told` has the last night that a receiver of messages was told of (`nights.py`)."""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of an empty store, or carry an older one over. Raises InputError for one of another version."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    script = ""
    if version == 0 and tables == 0:
        script, version = _TABLES, 1
    if not 1 <= version <= SCHEMA_VERSION:
        raise InputError(f"{path}: a history of schema {version}, and this version reads {SCHEMA_VERSION}")
    script += "".join(_MIGRATIONS[older] for older in range(version, SCHEMA_VERSION))
    if script:
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
