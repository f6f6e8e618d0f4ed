"""The zoo: the models that the suite knows by name, from `zoo.yaml` and from files that a user adds."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from hybrid_ops.errors import InputError
from hybrid_ops.models.packaged import PACKAGED_MODELS
from hybrid_ops.yaml_files import StrictModel, load_schema

ZOO_FILE = Path(__file__).parent / "zoo.yaml"
ZOO_SCHEMA_VERSION = 1


def _known_package(name: str | None) -> str | None:
    if name is not None and name not in PACKAGED_MODELS:
        raise ValueError(f"no packaged model is named {name!r}; there are {', '.join(PACKAGED_MODELS)}")
    return name


class ExpectedFailure(StrictModel):
    """A known failure: a row with its reason, until it starts to work."""

    platform: Literal["cpu", "cuda"]
    reason: str = Field(min_length=1)
    matches: str = Field(min_length=1)
    """Regular expression found in the engine's error. Another error is a real failure."""
    configurations: tuple[str, ...] | None = Field(default=None, strict=False)
    """Engine configurations that it holds for; all when absent."""
    engines: tuple[str, ...] | None = Field(default=None, strict=False)
    """Engines that it holds for; all when absent."""

    @field_validator("matches")
    @classmethod
    def _is_regular_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


class ModelEntry(StrictModel):
    """One model: where its config lies, where it runs, and what is known of it."""

    architecture: str
    """The mix of layers, in words."""
    config: str | None = None
    """The Hugging Face `config.json`, relative to the zoo file. Only a model that is a GGUF file has none."""
    gguf: str | None = None
    """The model as a GGUF file, relative to the zoo file, for an engine that reads one; others take its `config`."""
    hub: str | None = None
    """The name of the real weights on the Hugging Face hub, for `--perf-weights hub`."""
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """The commit of `hub` that is measured. A branch moves, and what it held would not be known afterwards."""
    package: Annotated[str | None, AfterValidator(_known_package)] = None
    """The real weights' name in `hybrid_ops.models.packaged`, for models that ship as a Python package."""
    platforms: tuple[Literal["cpu", "cuda"], ...] = Field(default=("cpu", "cuda"), strict=False)
    engine: str = "vllm"
    """Which engine answers; `hybrid_ops.engines.registry` knows them by name."""
    arguments: dict[str, Any] = {}
    """The engine's arguments (vLLM's `EngineArgs`) of this model beyond the suite's."""
    server_command: tuple[str, ...] | None = Field(default=None, strict=False)
    """What to start for serving cases in place of `vllm serve`. It listens on 127.0.0.1 and port `{port}`, speaks
    OpenAI's protocol and answers `/health`. `{python}`, `{model}` and `{name}` are filled in too."""
    context: int | None = Field(default=None, gt=0)
    """Longest sequence in tokens, where it is not the configuration's `max_position_embeddings`: a model without
    positions has no limit of its own."""
    suites: tuple[str, ...] | None = Field(default=None, strict=False)
    """The suites that it belongs to; all when absent."""
    not_in_suites: tuple[str, ...] = Field(default=(), strict=False)
    """The suites that it is left out of."""
    reference: str | None = None
    """The full-attention model of the same size that ratio metrics compare it with."""
    expected_failures: tuple[ExpectedFailure, ...] = Field(default=(), strict=False)
    source: Path = Field(default=ZOO_FILE, exclude=True)
    """The zoo file that the entry comes from."""

    @model_validator(mode="after")
    def _has_a_config(self) -> Self:
        if self.config is None and self.gguf is None:
            raise ValueError("config: the model's config.json; only a model with gguf: FILE does without")
        return self

    def belongs_to(self, suite: str) -> bool:
        """Whether a suite measures it."""
        return suite not in self.not_in_suites and (self.suites is None or suite in self.suites)

    @property
    def config_path(self) -> Path:
        return self.source.parent / (self.config or "")

    @property
    def gguf_path(self) -> Path:
        return self.source.parent / (self.gguf or "")

    @cached_property
    def config_contents(self) -> dict[str, Any]:
        """What is in the configuration's file, which is read once; nothing without one. Raises InputError."""
        if self.config is None:
            return {}
        try:
            return json.loads(self.config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.config_path}: not a JSON file: {error}") from None


class ZooFile(StrictModel):
    schema_version: int
    models: dict[str, ModelEntry]


def load_zoo(*extra_files: Path) -> dict[str, ModelEntry]:
    """Every model by name: the shipped zoo, then `extra_files` in order. A name may be defined once."""
    models: dict[str, ModelEntry] = {}
    for path in (ZOO_FILE, *extra_files):
        for name, entry in load_schema(path, ZooFile, ZOO_SCHEMA_VERSION).models.items():
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
                raise InputError(f"{path}: models.{name}: a name has lower-case letters, digits, '.', '_' and '-' only")
            if name in models:
                raise InputError(f"{path}: models.{name}: already defined in {models[name].source}; rename it")
            entry = entry.model_copy(update={"source": path})
            if entry.config is not None and not entry.config_path.is_file():
                raise InputError(f"{path}: models.{name}.config: no such file: {entry.config_path}")
            models[name] = entry
    for name, entry in models.items():
        if entry.reference is not None and entry.reference not in models:
            raise InputError(f"{entry.source}: models.{name}.reference: no model is named {entry.reference!r}")
    return models
