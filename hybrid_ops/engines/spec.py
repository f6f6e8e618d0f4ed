"""Engine specs and cases: what one launch needs, and what is measured in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hybrid_ops.models.families import read_model
from hybrid_ops.models.packaged import packaged_model
from hybrid_ops.models.stack import ModelStack
from hybrid_ops.models.zoo import ExpectedFailure, ModelEntry
from hybrid_ops.workloads.datafiles import find_data_file, fingerprint
from hybrid_ops.workloads.probe import CacheProbe
from hybrid_ops.workloads.serving import ServingWorkload
from hybrid_ops.workloads.tokenizer import write_word_tokenizer
from hybrid_ops.workloads.workload import DEFAULT, AnyWorkload, definition_hash

ENGINE_ARGUMENTS: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "max_model_len": 2304,
    "disable_log_stats": False,
    "seed": 42,
}
"""vLLM `EngineArgs` of every launch, unless the model or the configuration says otherwise. Without log statistics
per-request metrics are None; without a fixed cache size vLLM takes 92 % of the memory."""

PLATFORM_ARGUMENTS: dict[str, dict[str, Any]] = {
    "cpu": {"kv_cache_memory_bytes": 1 << 28},
    "cuda": {"gpu_memory_utilization": 0.9},
}


SERVER_ENGINE = "vllm-server"
"""The engine of serving cases: `vllm serve` (or another OpenAI-compatible server) under the field's load generator."""
OFFLINE_ONLY = ("skip_tokenizer_init", "disable_log_stats")
"""Arguments of `ENGINE_ARGUMENTS` that a server does without: it needs its tokenizer, and keeps its own statistics."""

WORKER_MODULES = {
    "vllm": "hybrid_ops.engines.vllm_worker",
    "noop": "hybrid_ops.engines.noop_worker",
    SERVER_ENGINE: "hybrid_ops.engines.server_worker",
}
"""The worker program of each engine."""


@dataclass(frozen=True)
class RunningServer:
    """An OpenAI-compatible server that someone else started."""

    url: str
    """Its base, such as `http://127.0.0.1:8000`."""
    names: dict[str, str] = field(default_factory=dict)
    """What the server calls a model of the zoo, where that is neither the model's name here nor its hub name."""


@dataclass(frozen=True, eq=False)
class EngineSpec:
    """What one launch needs. All cases of one spec run in one launch, so a model loads once."""

    model: str
    entry: ModelEntry
    platform: str
    configuration: str = DEFAULT
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: str = "seeded"
    """`seeded` (drawn, nothing is downloaded), `hub` (the real ones, by the entry's hub name) or `packaged` (the real
    ones, from the entry's package)."""
    engine: str | None = None
    """Another engine than the model's own: `vllm-server`."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the engine's environment."""
    running_server: RunningServer | None = None
    """For `vllm-server`: aim the load at this server and start none."""
    config_changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the model's configuration that have another value than in the entry's file."""

    @property
    def worker_module(self) -> str:
        return WORKER_MODULES[self.engine or self.entry.engine]

    @property
    def launch_name(self) -> str:
        """What launches of this spec are filed under, such as `nemotron-h-tiny` or `nemotron-h-tiny+vllm-server`.

        The server of a load with arguments of its own is another spec; a hash of them keeps the two apart.
        """
        if self.engine is None:
            return self.name
        own = {**self.arguments, **self.environment}
        return f"{self.name}+{self.engine}" + (
            f"-{definition_hash(json.dumps(own, sort_keys=True))[:6]}" if own else ""
        )

    @property
    def name(self) -> str:
        """`nemotron-h-tiny`, or with another configuration `nemotron-h-tiny@prefix-caching`."""
        return self.model if self.configuration == DEFAULT else f"{self.model}@{self.configuration}"

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """`EngineArgs` of the launch; none for a server that is already running."""
        if self.running_server is not None:
            return {}
        suite = ENGINE_ARGUMENTS
        if self.engine == SERVER_ENGINE:
            suite = {name: value for name, value in suite.items() if name not in OFFLINE_ONLY}
        return {
            **suite,
            **PLATFORM_ARGUMENTS[self.platform],
            "load_format": "seeded" if self.weights == "seeded" else "auto",
            **self.entry.arguments,
            **self.arguments,
        }

    def with_arguments(self, arguments: dict[str, Any]) -> EngineSpec:
        """The same spec with further engine arguments; its name stays, because it is compared with itself."""
        return replace(self, arguments={**self.arguments, **arguments})

    def model_config(self) -> dict[str, Any]:
        """The model's Hugging Face configuration."""
        return {**json.loads(self.entry.config_path.read_text(encoding="utf-8")), **self.config_changes}

    def layer_stack(self) -> ModelStack:
        """What the model is made of, in the data type that the engine runs it in. Raises InputError."""
        stack = read_model(self.model_config(), str(self.entry.config_path))
        dtype = self.engine_arguments.get("dtype", "auto")
        return stack if dtype == "auto" else replace(stack, dtype=dtype)

    def model_location(self, folder: Path) -> str:
        """What the engine is given as its model: the hub's name, or a folder made here that holds the config.

        Raises InputError for a packaged model that cannot be had.
        """
        if self.weights == "packaged":
            assert self.entry.package is not None
            return str(packaged_model(self.entry.package))
        if self.weights == "hub":
            if self.entry.hub is None:
                raise ValueError(f"{self.model} has no hub name in {self.entry.source}")
            return self.entry.hub
        target = folder / "model"
        target.mkdir(parents=True, exist_ok=True)
        configuration = self.model_config()
        (target / "config.json").write_text(json.dumps(configuration, indent=2), encoding="utf-8")
        if self.engine == SERVER_ENGINE:
            write_word_tokenizer(target, configuration["vocab_size"])
        return str(target)

    def load_arguments(self, folder: Path, deadline_seconds: float) -> dict[str, Any]:
        """The arguments of the worker's `load`; files that it needs are written into `folder`."""
        model = self.model_location(folder)
        if self.engine != SERVER_ENGINE:
            return {"model": model, "arguments": self.engine_arguments}
        running = self.running_server
        known = [self.model, *filter(None, [self.entry.hub])]
        if running is not None and self.model in running.names:
            known = [running.names[self.model]]
        return {
            "model": model,
            "arguments": self.engine_arguments,
            "names": known,
            "command": None if self.entry.server_command is None else list(self.entry.server_command),
            "url": None if running is None else running.url,
            "health_seconds": deadline_seconds,
        }

    def expected_failure(self) -> ExpectedFailure | None:
        """The known failure of this spec, if there is one."""
        for failure in self.entry.expected_failures:
            if failure.platform == self.platform and (
                failure.configurations is None or self.configuration in failure.configurations
            ):
                return failure
        return None


@dataclass(frozen=True, eq=False)
class Case:
    """One model × engine configuration × workload."""

    spec: EngineSpec
    workload_name: str
    workload: AnyWorkload
    data_folder: Path | None = None
    """Where the data files of workloads lie that do not ship with the suite."""

    @property
    def id(self) -> str:
        """The readable key of the case everywhere, for example `nemotron-h-tiny/decode`."""
        return f"{self.spec.name}/{self.workload_name}"

    @property
    def runs_the_model(self) -> bool:
        """Whether the model computes anything, so that a known failure of the model must show."""
        return not isinstance(self.workload, CacheProbe)

    def with_arguments(self, arguments: dict[str, Any]) -> Case:
        """The case on its spec with further engine arguments."""
        return replace(self, spec=self.spec.with_arguments(arguments))

    @property
    def definition(self) -> str:
        """Hash of all that the measured numbers depend on by intent: model, arguments, workload."""
        parts = [
            json.dumps(self.spec.model_config(), sort_keys=True),
            json.dumps(self.spec.engine_arguments, sort_keys=True),
            self.spec.weights,
            self.workload.model_dump_json(exclude={"description", "place"}),
        ]
        if isinstance(self.workload, ServingWorkload):
            parts.append(json.dumps(self.spec.entry.server_command))
            parts.append("running" if self.spec.running_server is not None else "own")
            if (path := self.data_file()) is not None:
                parts.append(fingerprint(path))
        return definition_hash(*parts)

    def data_file(self) -> Path | None:
        """The file that the workload reads its requests from; None if it needs none. It need not exist."""
        if not isinstance(self.workload, ServingWorkload) or self.workload.dataset_file is None:
            return None
        return find_data_file(self.workload.dataset_file, self.data_folder)
