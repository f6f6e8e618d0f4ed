"""Baselines: one YAML file a model in one folder a device class, read strictly and updated without losing a comment.

Where the value of a cell lies follows from its metric's scope: `any/` holds on every machine, `cpu/` and `cuda/` on
every machine of that platform, and a folder such as `nvidia-h200/` on that device class alone. A reader looks from
the most specific to the most general.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hybrid_ops.engines.devices import Device, placed_class
from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import Kind, Metric, Scope
from hybrid_ops.measure.procedures import find_metric
from hybrid_ops.measure.values import Value
from hybrid_ops.yaml_files import StrictModel, load_schema, load_yaml, round_trip_yaml

BASELINE_SCHEMA_VERSION = 1
SIGNIFICANT_DIGITS = 6
"""Digits to which measured numbers are written: finer than any noise, coarse enough to read in a review."""


class WaiverField(StrictModel):
    """A known regression that someone answers for until a date (see `waivers.Waiver`)."""

    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    expires: datetime.date
    limit: float | None = Field(default=None, gt=0)


class Recorded(StrictModel):
    """Where a case's values come from."""

    run: str
    date: datetime.date
    device: str
    versions: dict[str, str]
    settings: dict[str, bool | float | None] = {}
    """How the GPU was set, of what times depend on (`measure.gpu.COMPARED_SETTINGS`); none for a CPU."""


class CellBaseline(StrictModel):
    """The recorded value of one cell."""

    value: float | int | str
    tolerance: float | None = Field(default=None, ge=0)
    """Largest relative change that still passes, such as 0.1. Exact metrics have none."""
    launches: list[float] = []
    """The value of each launch behind `value`: how noisy the cell is."""
    sessions: list[int] = []
    """How many of the launches each session made, in their order; empty where all are of one session."""
    outliers: list[float] = []
    """Launches of the same update that it left out, because they lie far from all the others."""
    waiver: WaiverField | None = None

    @model_validator(mode="after")
    def _sessions_made_the_launches(self) -> CellBaseline:
        if self.sessions and (min(self.sessions) < 1 or sum(self.sessions) != len(self.launches)):
            raise ValueError(
                f"sessions must be numbers of launches that make {len(self.launches)} together, not {self.sessions}"
            )
        return self

    def launch_values(self) -> list[float]:
        """The launches, scaled to the geometric mean `value`: a value edited by hand keeps the measured spread."""
        if isinstance(self.value, str):
            raise TypeError("a hash has no launch values")
        if not self.launches:
            return [float(self.value)]
        return [launch * self.value / geometric_mean(self.launches) for launch in self.launches]


class CaseBaseline(StrictModel):
    recorded: Recorded
    definition: str
    """Hash of the model, engine arguments and workload that the values were measured with."""
    metrics: dict[str, CellBaseline]

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, metrics: dict[str, CellBaseline]) -> dict[str, CellBaseline]:
        for name, cell in metrics.items():
            metric = find_metric(name)
            if metric is None:
                where = "see `hybrid_ops/measure/procedures/` for the names, or load the plugin that has it"
                raise ValueError(f"unknown metric {name!r}; {where}")
            if metric.kind is Kind.EXACT:
                if cell.tolerance is not None or cell.launches or cell.outliers:
                    raise ValueError(f"{name} is exact: it has no tolerance and no launches")
                continue
            if cell.tolerance is None:
                raise ValueError(f"{name} needs a tolerance, such as 0.1")
            if isinstance(cell.value, str) or cell.value <= 0:
                raise ValueError(f"{name} must be a number above 0, not {cell.value!r}")
            if any(launch <= 0 for launch in cell.launches):
                raise ValueError(f"{name}.launches must all be above 0")
        return metrics


class BaselineFile(StrictModel):
    schema_version: int
    model: str
    device_class: str
    cases: dict[str, CaseBaseline]

    @model_validator(mode="after")
    def _matches_its_place(self, info: ValidationInfo) -> BaselineFile:
        for case in self.cases:
            if case.partition("/")[0].partition("@")[0] != self.model:
                raise ValueError(f"cases.{case}: the case belongs to another model's file")
        return self


@dataclass(frozen=True)
class FoundBaseline:
    """A cell's baseline and where it was found."""

    cell: CellBaseline
    recorded: Recorded
    definition: str
    path: Path


@dataclass(frozen=True)
class Update:
    """A new value for one cell."""

    model: str
    case: str
    metric: Metric
    value: Value
    launches: list[float]
    sessions: list[int]
    """How many of the launches each session made; empty for a single session."""
    outliers: list[float]
    tolerance: float | None
    definition: str
    recorded: Recorded
    device_count: int | None = None
    """How many devices it was measured on; None for what a launch has by default."""


@dataclass(frozen=True)
class Written:
    """What an update did to one cell."""

    case: str
    metric: Metric
    old: Value | None
    new: Value
    path: Path


class Baselines:
    """The baselines under `root` that apply to `device`.

    Every file of every folder is validated at once, so that a broken file is found by whoever breaks it and not by
    the machine that first needs it.
    """

    def __init__(self, root: Path, device: Device) -> None:
        self.root = root
        self.device = device
        if root.exists() and not root.is_dir():
            raise InputError(f"{root}: not a folder; name the folder of the baselines with --perf-baselines")
        self._files = {
            path: _load_file(path) for path in sorted(root.glob("*/*.yaml")) if path.parent.name != "published"
        }

    def folder(self, scope: Scope, device_count: int | None = None) -> Path:
        """Where the values of a scope lie that were measured on so many devices."""
        device = self.device
        names = {
            Scope.DEVICE_CLASS: placed_class(device.device_class, device.platform, device_count),
            Scope.PLATFORM: device.platform,
            Scope.ANY: "any",
        }
        return self.root / names[scope]

    def find(self, case: str, metric: str, device_count: int | None = None) -> FoundBaseline | None:
        """The most specific baseline of a cell that is measured on so many devices, or None."""
        folders = [self.folder(scope, device_count) for scope in (Scope.DEVICE_CLASS, Scope.PLATFORM, Scope.ANY)]
        model = case.partition("/")[0].partition("@")[0]
        for path in (folder / f"{model}.yaml" for folder in folders):
            file = self._files.get(path)
            recorded = None if file is None else file.cases.get(case)
            if recorded is not None and (cell := recorded.metrics.get(metric)) is not None:
                return FoundBaseline(cell, recorded.recorded, recorded.definition, path)
        return None

    def place(self, model: str, metric: Metric, device_count: int | None = None) -> Path:
        """The file in which a new value of `metric` belongs that was measured on so many devices."""
        return self.folder(metric.scope, device_count) / f"{model}.yaml"

    def write(self, updates: list[Update]) -> list[Written]:
        """Write `updates` into their files, each file once and whole, and nothing else. Comments survive."""
        written: list[Written] = []
        by_file: dict[Path, list[Update]] = {}
        for update in updates:
            by_file.setdefault(self.place(update.model, update.metric, update.device_count), []).append(update)
        for path, group in sorted(by_file.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.parent):
                document = load_yaml(path) if path.exists() else _new_document(path, group[0].model)
                written += [_apply(document, update, path) for update in group]
                _write_atomically(path, document)
        return written


def _load_file(path: Path) -> BaselineFile:
    file = load_schema(path, BaselineFile, BASELINE_SCHEMA_VERSION)
    for field, expected in (("device_class", path.parent.name), ("model", path.stem)):
        if getattr(file, field) != expected:
            raise InputError(f"{path}: {field}: says {getattr(file, field)!r} but the file's place says {expected!r}")
    return file


def _new_document(path: Path, model: str) -> CommentedMap:
    return CommentedMap(
        schema_version=BASELINE_SCHEMA_VERSION, model=model, device_class=path.parent.name, cases=CommentedMap()
    )


def _apply(document: CommentedMap, update: Update, path: Path) -> Written:
    """Put one update into a document, touching no line that it does not concern."""
    case = document["cases"].setdefault(update.case, CommentedMap())
    case["recorded"] = _flow(update.recorded.model_dump(exclude_defaults=True))
    case["definition"] = update.definition
    cells = case.setdefault("metrics", CommentedMap())
    name = update.metric.name
    cell = cells.get(name)
    old = None if cell is None else cell["value"]
    if cell is None:
        cells[name] = cell = CommentedMap()
        cell.fa.set_flow_style()
    cell["value"] = update.value if update.metric.kind is Kind.EXACT else _rounded(update.value)
    if update.tolerance is not None:
        cell["tolerance"] = update.tolerance
        cell["launches"] = _flow_list(update.launches)
        for field, values in (("sessions", update.sessions), ("outliers", update.outliers)):
            if values:
                cell[field] = _flow_list(values)
            else:
                cell.pop(field, None)
    return Written(update.case, update.metric, old, update.value, path)


def _flow(mapping: dict[str, Any]) -> CommentedMap:
    result = CommentedMap((key, _flow(value) if isinstance(value, dict) else value) for key, value in mapping.items())
    result.fa.set_flow_style()
    return result


def _flow_list(values: Sequence[float]) -> CommentedSeq:
    result = CommentedSeq(_rounded(value) for value in values)
    result.fa.set_flow_style()
    return result


def _rounded(value: Value) -> Value:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two runs that update one file do so one after the other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_atomically(path: Path, document: CommentedMap) -> None:
    text = io.StringIO()
    round_trip_yaml().dump(document, text)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
