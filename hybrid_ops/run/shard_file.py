"""`shard.json`: what a shard of a run says of the whole run, for whoever joins the shards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hybrid_ops.errors import InputError, describe_validation
from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.cells import Cell
from hybrid_ops.run.options import RunOptions, SuiteOptions
from hybrid_ops.run.shards import OPTION, Shard

SHARD_FILE = "shard.json"


class ShardFile(BaseModel):
    """One shard, and the run that it is a part of."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    shard: Shard
    cells: list[str]
    """Every cell of the whole run, by id, in its order."""
    noisy_cells: int
    """How many of them are noisy: their share of false alarms is controlled over the whole run."""
    launches: list[list[str]]
    """The launches of each shard, by name."""
    suite: SuiteOptions
    """Paths are relative to the project's root."""
    run: RunOptions

    def error_share(self, cells: Sequence[Cell]) -> float:
        """The share of the whole run's noisy cells that `cells` have."""
        return noisy_count(cells) / self.noisy_cells if self.noisy_cells else 1.0


def noisy_count(cells: Sequence[Cell]) -> int:
    """How many cells have noise."""
    return sum(cell.metric.kind is not Kind.EXACT for cell in cells)


def relative_to(root: Path, options: SuiteOptions) -> SuiteOptions:
    """The same options with paths that hold in another checkout, too."""

    def moved(path: Path) -> Path:
        return Path(os.path.relpath(path, root))

    return replace(
        options,
        workloads_file=None if options.workloads_file is None else moved(options.workloads_file),
        models_files=tuple(map(moved, options.models_files)),
        data_folder=moved(options.data_folder),
    )


def read_shard_file(folder: Path) -> ShardFile:
    """What the folder of a shard says. Raises InputError."""
    path = folder / SHARD_FILE
    try:
        return ShardFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name the folder of a run that was made with {OPTION}"
        ) from None
    except ValidationError as error:
        raise describe_validation(path, error) from None
