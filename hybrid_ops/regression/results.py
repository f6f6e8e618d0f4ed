"""`results.json`: the one typed model that a run is written and read through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hybrid_ops.errors import InputError, describe_validation
from hybrid_ops.measure.records import LaunchRecord, PairRecord
from hybrid_ops.measure.store import write_json
from hybrid_ops.measure.values import Value
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.claims import ClaimResult
from hybrid_ops.regression.cost import Cost

RESULTS_SCHEMA_VERSION = 1
RESULTS_FILE = "results.json"


class DeviceResult(BaseModel):
    """The device and machine that were measured."""

    model_config = ConfigDict(populate_by_name=True)

    platform: str
    name: str
    device_class: str = Field(alias="class")
    uuid: str | None
    cores: int | None
    """None, as all that follows, where the run was not made here and nobody says."""
    memory_bytes: int | None
    kernel: str | None
    settings: dict[str, bool | float | str | None] = {}
    """How a GPU is set (`measure.gpu.SETTINGS`); null for what it does not tell."""
    peaks: DevicePeaks | None = None
    """Those that utilisation was measured against, where a cell needed them."""


class ArmResult(BaseModel):
    """One side of an A/B comparison."""

    name: str
    interpreter: str
    environment: dict[str, str | None]
    arguments: dict[str, Any]


class WrittenBaseline(BaseModel):
    """A cell that an update wrote."""

    case: str
    metric: str
    unit: str
    old: Value | None
    new: Value
    file: str


class UpdateResult(BaseModel):
    """What `--update-baselines` did."""

    written: list[WrittenBaseline]
    kept: list[str]
    """Portable cells that still pass."""
    refused: dict[str, str]
    """Cells that were not recorded, and why."""


class CellNoise(BaseModel):
    """What A/A comparisons have shown of a cell so far."""

    model_config = ConfigDict(extra="allow")

    deviation: float
    degrees: float
    mde: float
    false_positive_rate: float


class RunResults(BaseModel):
    """One run. Beside these fields, each kind of work may add its details under a name of its own, by case."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)

    schema_version: int = Field(default=RESULTS_SCHEMA_VERSION, alias="schema")
    run_id: str
    command: str
    started: str
    """When its first launch began, as ISO 8601 has it; empty without a launch."""
    seconds: float
    device: DeviceResult
    versions: dict[str, str]
    cells: list[CellResult]
    launches: list[LaunchRecord | PairRecord]
    claims: list[ClaimResult] = []
    arms: tuple[ArmResult, ArmResult] | None = None
    """The two sides of an A/B comparison; null for a comparison with the baselines."""
    findings: list[str] = []
    """What cells or launches show together, in sentences."""
    update: UpdateResult | None = None
    noise: dict[str, CellNoise] | None = None
    """What an A/A comparison added to the noise file."""
    cost: Cost | None = None
    """What it cost; null in results of releases that did not keep it, and of a run that was not made here."""

    @model_validator(mode="after")
    def _names_each_cell_once(self) -> RunResults:
        seen = set()
        for cell in self.cells:
            if cell.cell in seen:
                raise ValueError(f"the cell {cell.cell} is there twice")
            seen.add(cell.cell)
        return self

    @field_validator("started")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if value:
            datetime.fromisoformat(value)
        return value

    def details(self, key: str) -> dict[str, Any]:
        """What a kind of work says of its cases under its own name; empty where it has none."""
        return (self.__pydantic_extra__ or {}).get(key, {})

    def add_details(self, details: Mapping[str, dict[str, Any]]) -> None:
        """Add what kinds of work say of their cases, each under its own name."""
        for key, told in details.items():
            setattr(self, key, told)

    @property
    def single_launches(self) -> list[LaunchRecord]:
        """Every launch, arms one by one."""
        return [launch for record in self.launches for launch in record.launches]

    def records_of(self, case: str) -> list[LaunchRecord]:
        """The launches that have values of a case, arms one by one."""
        return [launch for launch in self.single_launches if case in launch.cases and launch.cases[case].values]

    def medians(self, case: str) -> dict[str, float]:
        """The median over a case's launches of each of its numbers; empty where nothing was measured."""
        seen: dict[str, list[float]] = {}
        for launch in self.records_of(case):
            for name, value in launch.cases[case].values.items():
                if not isinstance(value, str):
                    seen.setdefault(name, []).append(value)
        return {name: median(values) for name, values in seen.items()}

    def write(self, folder: Path) -> Path:
        """Write `results.json` into `folder`, whole or not at all, and return its path."""
        path = folder / RESULTS_FILE
        write_json(path, self.model_dump(mode="json", by_alias=True))
        return path


def read_results(path: Path) -> RunResults:
    """The run in a `results.json`, or in the folder of a run. Raises InputError."""
    path = path / RESULTS_FILE if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict) or not {"run_id", "launches", "cells"} <= document.keys():
        raise InputError(f"{path}: not the {RESULTS_FILE} of a run")
    if document.get("schema") != RESULTS_SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema: this release reads version {RESULTS_SCHEMA_VERSION}, the file says "
            f"{document.get('schema')!r}"
        )
    try:
        return RunResults.model_validate(document)
    except ValidationError as error:
        raise describe_validation(path, error) from None
