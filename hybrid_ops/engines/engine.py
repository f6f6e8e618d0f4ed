"""What an engine is to the suite: one class, in one file, beside its worker program."""

from __future__ import annotations

import json
from abc import ABC
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hybrid_ops.engines.protocol import LOAD_STAGE
from hybrid_ops.errors import InputError
from hybrid_ops.models.hub import weights_folder
from hybrid_ops.models.packaged import packaged_model

if TYPE_CHECKING:
    from hybrid_ops.engines.spec import EngineSpec


class CacheSize(Enum):
    """What the size of an engine's cache follows from, and so where one number of blocks holds."""

    ARGUMENTS = "arguments"
    """Its arguments alone: every machine of a platform has the same."""
    DEVICE = "device"
    """The device's memory by a rule: every machine of a device class has the same."""
    FREE_MEMORY = "free memory"
    """What memory a start finds free: no two launches need have the same."""


class Engine(ABC):
    """A program that answers. A subclass says what it is called, what it can be asked and what it can tell.

    To add one, subclass it in a file of its own and list an instance in `engines.registry.ENGINES`, or call
    `engines.registry.register` from a pytest plugin.
    """

    name: ClassVar[str]
    """What a zoo entry or a configuration calls it."""
    worker: ClassVar[Path]
    """The worker program, which is run by its path under the interpreter of the arm."""
    operations: ClassVar[frozenset[str]]
    """What its worker answers beside `load`. A kind of work that asks for anything else makes no case of it."""
    metrics: ClassVar[frozenset[str] | None] = None
    """The metrics that it can give, those of a length without the length; all of its operations' when None. One that
    it cannot give is no cell."""
    reads_gguf: ClassVar[bool] = False
    """Whether it takes the GGUF file of a model that has one."""
    uses_energy: ClassVar[bool] = True
    """Whether the energy of its device tells of the model; not so where nothing is computed."""
    server: ClassVar[str | None] = None
    """The engine that puts its models behind a server; None where there is none."""
    without_kept_code: ClassVar[Mapping[str, str]] = {}
    """Variables that make it compile anew what earlier starts have compiled."""
    shared_platforms: ClassVar[frozenset[str]] = frozenset({"cpu"})
    """Where two of it can live at once on one device, whatever their models."""

    def gives(self, metric: str) -> bool:
        """Whether it can give this metric (`max_concurrency@4096` counts as `max_concurrency`)."""
        return self.metrics is None or metric.partition("@")[0] in self.metrics

    def arguments(self, spec: EngineSpec) -> dict[str, Any]:
        """All arguments of a launch, those that only fit it to its platform included."""
        return {**spec.entry.arguments, **spec.sizing, **spec.arguments}

    def portable_arguments(self, spec: EngineSpec) -> dict[str, Any]:
        """The arguments that define what is measured on every platform."""
        return {**spec.entry.arguments, **spec.arguments}

    def for_length(self, spec: EngineSpec, tokens: int) -> EngineSpec:
        """The spec for sequences of `tokens` tokens. An engine that plans by length says so here."""
        return spec

    def cache_size(self, spec: EngineSpec) -> CacheSize:
        """What the size of its cache follows from."""
        return CacheSize.ARGUMENTS

    def repeats_kernels(self, spec: EngineSpec) -> bool:
        """Whether every launch computes with the same kernels. Those chosen by timing may round in another way."""
        return True

    def compiles(self, spec: EngineSpec) -> bool:
        """Whether a launch compiles the model and captures graphs of it."""
        return False

    def misfit(self, spec: EngineSpec) -> str | None:
        """Why the model does not fit the devices that it would be launched on, with both numbers; None if it does."""
        return None

    def beside_another(self, spec: EngineSpec) -> EngineSpec | None:
        """The spec as one of two engines that live at once on one device; None where two do not fit."""
        return spec if spec.platform in self.shared_platforms else None

    def prepare(self, spec: EngineSpec, folder: Path) -> str:
        """Where the worker finds the model; files that it needs are written into `folder`. Raises InputError.

        By default the folder of real weights that were downloaded, that of a packaged model, or one made here that
        holds the model's configuration.
        """
        if spec.entry.config is None:
            where = f"{spec.entry.source}: models.{spec.model}"
            raise InputError(f"{where}: the engine {self.name} reads no GGUF file; set config: or engine: llama-bench")
        if spec.weights == "packaged":
            assert spec.entry.package is not None
            return str(packaged_model(spec.entry.package))
        if spec.weights == "hub":
            assert spec.entry.hub is not None
            return weights_folder(spec.entry.hub, spec.pinned_revision())
        target = folder / "model"
        target.mkdir(parents=True, exist_ok=True)
        (target / "config.json").write_text(json.dumps(spec.model_config(), indent=2), encoding="utf-8")
        return str(target)

    def load_request(self, spec: EngineSpec, folder: Path, stages: Mapping[str, float]) -> dict[str, Any]:
        """The arguments of the worker's `load`. Raises InputError for a model that cannot be had.

        `stages` are the seconds that each stage of a load may take.
        """
        return {"model": self.prepare(spec, folder), "arguments": self.arguments(spec)}

    def load_patience(self, stages: Mapping[str, float]) -> float:
        """How long to wait in the first stage of a load before the worker is killed, in seconds.

        A worker that announces no further stages has this long for all of them.
        """
        return stages[LOAD_STAGE]

    def launch_name(self, spec: EngineSpec) -> str:
        """What launches of a spec are filed under, such as `nemotron-h-tiny@prefix-caching`."""
        return spec.name

    def definition(self, spec: EngineSpec) -> list[str]:
        """What further parts of a spec define a measurement, as text."""
        return []

    def answers(self, operations: Collection[str]) -> bool:
        """Whether its worker answers all of these."""
        return self.operations.issuperset(operations)
