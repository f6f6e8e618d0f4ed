"""Engine specs: what one launch needs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hybrid_ops.engines.devices import shortage
from hybrid_ops.engines.engine import Engine
from hybrid_ops.errors import InputError
from hybrid_ops.models.families import read_model
from hybrid_ops.models.stack import ModelStack
from hybrid_ops.models.zoo import ExpectedFailure, ModelEntry
from hybrid_ops.workloads.base import DEFAULT


@dataclass(frozen=True, eq=False)
class EngineSpec:
    """What one launch needs. All cases of one spec run in one launch, so a model loads once."""

    model: str
    entry: ModelEntry
    platform: str
    engine: Engine
    configuration: str = DEFAULT
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the engine beyond the model's own: the configuration's, the workload's and the command line's."""
    sizing: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that only fit the launch to its platform. They define no measurement, and `arguments` override them."""
    weights: str = "seeded"
    """`seeded` (drawn, nothing is downloaded), `hub` (the real ones, by the entry's hub name), `packaged` (the real
    ones, from the entry's package) or `gguf` (those of the entry's GGUF file)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the engine's environment."""
    config_changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model's configuration that have another value than in the entry's file."""
    memory_bytes: int | None = None
    """Memory of each device that it is launched on; None where it is not known or not the device's own."""
    power_limit_watts: int | None = None
    """The power limit that its GPU holds in each launch; as it is when None."""
    cores: int | None = None
    """How many cores of a CPU each of its ranks is bound to; None: all share the whole machine. It is no part of what
    defines a measurement, but of the device class."""
    replicas: int = 1
    """How many engines answer a batch together, each on devices of its own."""

    @property
    def name(self) -> str:
        """`nemotron-h-tiny`, with another configuration `nemotron-h-tiny@prefix-caching`, and at a power limit
        `nemotron-h-tiny@450W` or `nemotron-h-tiny@prefix-caching-450W`."""
        apart = [self.configuration] if self.configuration != DEFAULT else []
        apart += [f"{self.power_limit_watts}W"] if self.power_limit_watts is not None else []
        return f"{self.model}@{'-'.join(apart)}" if apart else self.model

    @cached_property
    def launch_name(self) -> str:
        """What launches of this spec are filed under: its name, or what the engine makes of it."""
        return self.engine.launch_name(self)

    @cached_property
    def engine_arguments(self) -> dict[str, Any]:
        """All arguments of the launch, such as vLLM's `EngineArgs`."""
        return self.engine.arguments(self)

    def with_arguments(self, arguments: Mapping[str, Any]) -> EngineSpec:
        """The same spec with further engine arguments; its name stays, because it is compared with itself."""
        return replace(self, arguments={**self.arguments, **arguments})

    def with_sizing(self, sizing: Mapping[str, Any]) -> EngineSpec:
        """The same spec with further arguments that only fit it to its platform."""
        return replace(self, sizing={**self.sizing, **sizing})

    @cached_property
    def ranks(self) -> int:
        """The processes that share one copy of the model: tensor × pipeline × data parallel."""
        sizes = [self.engine_arguments.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline", "data")]
        return math.prod(size for size in sizes if isinstance(size, int))

    @property
    def device_count(self) -> int | None:
        """How many devices a launch has: GPUs, or cores of a CPU. None: what it has by default (`devices.placed`)."""
        if self.platform == "cpu":
            is_whole = self.cores is None and self.replicas == 1
            return None if is_whole else (self.cores or 1) * self.ranks * self.replicas
        return self.ranks * self.replicas if self.platform == "cuda" else None

    @property
    def placement(self) -> str:
        """How its engines are placed, in words; empty for one engine of one rank."""
        told = [f"{self.replicas} engines"] if self.replicas > 1 else []
        told += [f"{self.ranks} ranks{' each' if told else ''}"] if self.ranks > 1 else []
        if told and self.platform == "cpu" and self.device_count is not None:
            told.append(f"{self.device_count} cores in all")
        return ", ".join(told)

    @property
    def revision(self) -> str | None:
        """The commit of the weights on the hub; None for weights that are not from there."""
        return self.entry.revision if self.weights == "hub" else None

    def pinned_revision(self) -> str:
        """That commit. Raises InputError where the entry of the zoo does not name it."""
        if self.entry.revision is None:
            raise InputError(
                f"{self.entry.source}: models.{self.model}.revision: real weights need the commit that is measured; "
                f"`git ls-remote https://huggingface.co/{self.entry.hub} HEAD` names the newest"
            )
        return self.entry.revision

    @cached_property
    def misfit(self) -> str | None:
        """Why the model does not fit the devices of this machine, or None."""
        lacking = shortage(self.platform, self.device_count)
        return self.engine.misfit(self) if lacking is None else f"{self.name} does not fit: {lacking}"

    def model_config(self) -> dict[str, Any]:
        """The model's Hugging Face configuration, as the launch has it. Raises InputError."""
        return {**self.entry.config_contents, **self.config_changes}

    @property
    def positions(self) -> int | None:
        """The positions that the model is made for, if it has any."""
        config = self.model_config()
        return config.get("text_config", config).get("max_position_embeddings")

    def layer_stack(self) -> ModelStack:
        """What the model is made of, in the data type that the engine runs it in. Raises InputError."""
        stack = read_model(self.model_config(), str(self.entry.config_path))
        dtype = self.engine.portable_arguments(self).get("dtype", "auto")
        return stack if dtype == "auto" else replace(stack, dtype=dtype)

    def definition(self, portable: bool) -> list[str]:
        """What of the spec defines a measurement, as text. `portable` leaves out what follows from the platform.

        What follows from the memory of a device is no definition: it is the same rule on every device class.
        """
        anywhere = replace(self, memory_bytes=None)
        arguments = self.engine.portable_arguments(self) if portable else self.engine.arguments(anywhere)
        limit = [] if self.power_limit_watts is None else [f"{self.power_limit_watts} W"]
        replicas = [f"{self.replicas} replicas"] if self.replicas > 1 else []
        return [
            self.engine.name,
            json.dumps(self.model_config(), sort_keys=True),
            json.dumps(arguments, sort_keys=True),
            self.weights if self.revision is None else f"{self.weights} {self.entry.hub}@{self.revision}",
            *self.engine.definition(self),
            *limit,
            *replicas,
        ]

    def expected_failure(self) -> ExpectedFailure | None:
        """The known failure of this spec, if there is one."""
        for failure in self.entry.expected_failures:
            if (
                failure.platform == self.platform
                and (failure.configurations is None or self.configuration in failure.configurations)
                and (failure.engines is None or self.engine.name in failure.engines)
            ):
                return failure
        return None
