"""The folder of one run: where its launches are recorded, shared by all processes of the run.

    RESULTS/<run id>/
        results.json              the end of the run: every cell, verdict and launch
        launches/<name>/<n>/      record.json, engine.log (of an A/B pair: a/engine.log and b/engine.log)
        rounds/<n>.json           which launches each round was decided to have

Under pytest-xdist several processes share the folder. Each launch is taken by whoever locks it first and is recorded
once; a record appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from hybrid_ops.errors import CannotWrite, InputError, refuses_to_be_written
from hybrid_ops.measure.records import LaunchRecord, PairRecord

POLL_SECONDS = 0.2
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def new_run_id() -> str:
    """A name for a new run that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def new_run_folder(results: Path, run_id: str | None = None) -> Path:
    """Make the folder of a new run under `results`; its name is the run's id, which is made up unless it is given.

    Raises InputError for a name that is no plain one or is taken, and CannotWrite where the disk takes no more.
    """
    if run_id is not None and not RUN_ID.fullmatch(run_id):
        raise InputError(f"--perf-run-id: letters, digits, '.', '_' and '-', a letter or digit first, not {run_id!r}")
    folder = results / (run_id or new_run_id())
    make_run_folder(folder, name_option="--perf-run-id", place_option="--perf-results")
    return folder


def make_run_folder(folder: Path, name_option: str, place_option: str) -> None:
    """Make the folder of a run; the options are those that choose another name and another place.

    Raises InputError for a folder that is there, and CannotWrite where the disk takes no more.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder}: a run has this folder already; choose another {name_option}") from None
    except OSError as error:
        kind = CannotWrite if refuses_to_be_written(error) else InputError
        said = f"the results folder cannot be written ({error.strerror}); choose another with {place_option}"
        raise kind(f"{folder.parent}: {said}") from None


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document so that it is seen whole or not at all."""
    write_text(path, json.dumps(document, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is seen whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


T = TypeVar("T")
RecordT = TypeVar("RecordT", LaunchRecord, PairRecord)


class RunStore(Generic[RecordT]):
    """The launches (or launch pairs), rounds and results of one run, on disk."""

    def __init__(self, folder: Path, record_type: type[RecordT]) -> None:
        self.folder = folder
        self._records: TypeAdapter[RecordT] = TypeAdapter(record_type)
        self.results_path = folder / "results.json"

    def launch_folder(self, launch_name: str, index: int) -> Path:
        return self.folder / "launches" / launch_name / str(index)

    def records(self, launch_name: str) -> list[RecordT]:
        """All finished launches of a spec, in order."""
        records: list[RecordT] = []
        while (path := self._record_path(launch_name, len(records) + 1)).exists():
            records.append(self._records.validate_json(path.read_bytes()))
        return records

    def is_recorded(self, launch_name: str, index: int) -> bool:
        """Whether a launch is finished."""
        return self._record_path(launch_name, index).exists()

    def _record_path(self, launch_name: str, index: int) -> Path:
        return self.launch_folder(launch_name, index) / "record.json"

    def once(self, path: Path, adapter: TypeAdapter[T], make: Callable[[], T]) -> T:
        """What the JSON document at `path` holds, made and written by the first process that asks for it."""
        with self._lock(path.name, block=True):
            if not path.exists():
                write_json(path, adapter.dump_python(make(), mode="json", by_alias=True))
        return adapter.validate_json(path.read_bytes())

    def keep(self, record: RecordT) -> None:
        """Record a launch that is made, here or elsewhere."""
        path = self._record_path(record.launch_name, record.index)
        write_json(path, self._records.dump_python(record, mode="json", by_alias=True))

    def complete(self, wanted: dict[tuple[str, int], Callable[[], RecordT]]) -> None:
        """Return when every wanted launch is recorded, having made here those that no other process had taken."""
        missing = dict(wanted)
        while missing:
            progressed = False
            for (launch_name, index), make in list(missing.items()):
                path = self._record_path(launch_name, index)
                if not path.exists():
                    with self._lock(f"{launch_name}-{index}", block=False) as held:
                        if not held:
                            continue
                        if not path.exists():
                            self.keep(make())
                del missing[launch_name, index]
                progressed = True
            if not progressed:
                time.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def _lock(self, name: str, block: bool) -> Iterator[bool]:
        folder = self.folder / ".locks"
        folder.mkdir(exist_ok=True)
        with (folder / f"{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
