"""What launches of each engine take on a device class: written by an update, read to divide a run among shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hybrid_ops.errors import InputError, describe_validation
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.measure.store import write_json
from hybrid_ops.yaml_files import StrictModel

LAUNCH_SECONDS_FILE = "launch_seconds.json"
"""Beside the baselines of the device class."""
LAUNCH_SECONDS_SCHEMA_VERSION = 1
KEPT_WITHIN_SECONDS, KEPT_WITHIN_SHARE = 2.0, 0.5
"""How far a new time may lie from the recorded one, which then stays. It is for planning, and each review shows it."""

Seconds = Annotated[float, Field(ge=0)]


class EngineSeconds(StrictModel):
    """What one launch of an engine takes."""

    loading: Seconds
    """All but the cases."""
    cases: dict[str, Seconds]

    def of(self, cases: Sequence[str]) -> float:
        """Seconds of a launch that measures `cases`. One that was never measured takes as long as the others."""
        other = fmean(self.cases.values()) if self.cases else 0.0
        return self.loading + sum(self.cases.get(case, other) for case in cases)


Recorded = Mapping[str, EngineSeconds]
"""By the name of the launches."""


class _File(StrictModel):
    schema_version: Literal[1] = Field(alias="schema")
    engines: dict[str, EngineSeconds]


def read_launch_seconds(path: Path) -> Recorded:
    """What a device class has recorded; nothing without a file. Raises InputError."""
    if not path.exists():
        return {}
    try:
        return _File.model_validate_json(path.read_bytes()).engines
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        fault = describe_validation(path, error)
        raise InputError(f"{fault}; remove the file, and the next update makes it anew") from None


def record_launch_seconds(path: Path, launches: Sequence[LaunchRecord], names: Collection[str]) -> None:
    """Record what the launches with one of these `names` took. Raises InputError for a file that cannot be read.

    Other engines and cases stay as they are, and so does a time that has not moved much.
    """
    recorded = dict(read_launch_seconds(path))
    before = dict(recorded)
    for name in names:
        made = [record for record in launches if record.launch_name == name and not record.failed]
        if made:
            recorded[name] = _engine_seconds(made, recorded.get(name))
    if recorded != before:
        engines = {name: recorded[name].model_dump() for name in sorted(recorded)}
        write_json(path, {"schema": LAUNCH_SECONDS_SCHEMA_VERSION, "engines": engines})


def _engine_seconds(made: Sequence[LaunchRecord], old: EngineSeconds | None) -> EngineSeconds:
    cases: dict[str, list[float]] = {}
    loading = []
    for record in made:
        known = {case: seen.seconds for case, seen in record.cases.items() if seen.seconds is not None}
        loading.append(max(0.0, record.seconds - sum(known.values())))
        for case, seconds in known.items():
            cases.setdefault(case, []).append(seconds)
    known_cases = {} if old is None else old.cases
    return EngineSeconds(
        loading=_settled(fmean(loading), None if old is None else old.loading),
        cases={**known_cases, **{case: _settled(fmean(own), known_cases.get(case)) for case, own in cases.items()}},
    )


def _settled(new: float, old: float | None) -> float:
    """The recorded time while it is good enough to plan with, else the new one."""
    if old is not None and abs(new - old) <= max(KEPT_WITHIN_SECONDS, KEPT_WITHIN_SHARE * old):
        return old
    return round(new, 1)


def expected_seconds(recorded: Recorded, launches: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Seconds of each launch, by its name; `launches` says which cases it measures.

    A launch that was never recorded has as much for each of its cases as the others have together; where none was,
    each case counts as one.
    """
    known = {name: recorded[name].of(cases) for name, cases in launches.items() if name in recorded}
    counted = sum(len(launches[name]) for name in known)
    each = sum(known.values()) / counted if counted else 1.0
    return {name: known.get(name, each * len(cases)) for name, cases in launches.items()}
