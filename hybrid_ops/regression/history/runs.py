"""One run as the history keeps it, read from its results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hybrid_ops.errors import InputError, describe_validation


class _Part(BaseModel):
    """Whatever else a results.json says is of no concern to the history."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class RecordedCell(_Part):
    """A cell of a run: a case and a metric, what it measured and the verdict."""

    case: str
    metric: str
    unit: str
    kind: str
    direction: str
    value: int | float | str | None
    launches: list[Any]
    verdict: str

    @property
    def number(self) -> float | None:
        """The value if it is a finite number."""
        if self.value is None or isinstance(self.value, str) or not math.isfinite(self.value):
            return None
        return float(self.value)

    @property
    def text(self) -> str | None:
        """The value if it is a text."""
        return self.value if isinstance(self.value, str) else None


class _Device(_Part):
    class_: str = Field(alias="class")


class RecordedRun(_Part):
    """The parts of a results.json that the history keeps."""

    schema_: Literal[1] = Field(alias="schema")
    run_id: str
    started: datetime
    """A run that does not name its time zone was made in that of the machine that reads it."""
    device: _Device
    versions: Mapping[str, Any] = {}
    cells: list[RecordedCell]

    @model_validator(mode="after")
    def _check_names(self) -> RecordedRun:
        seen = set()
        for cell in self.cells:
            name = (cell.case, cell.metric)
            if name in seen:
                raise ValueError(f"the cell {cell.case} {cell.metric} is there twice")
            seen.add(name)
        return self


def read_run(path: Path) -> RecordedRun:
    """The run of a results.json. Raises InputError that names the file and the fields that are wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not the results.json of a run")
    try:
        return RecordedRun.model_validate(content)
    except ValidationError as error:
        raise describe_validation(path, error) from None
