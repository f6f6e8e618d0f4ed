"""An OpenAI-compatible server under the field's load generator: `vllm serve`, another command, or one that runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.protocol import BENCH, RUN
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_offline import ARGUMENTS, VllmOffline
from hybrid_ops.workloads.base import definition_hash
from hybrid_ops.workloads.tokenizer import write_word_tokenizer

OFFLINE_ONLY = ("skip_tokenizer_init", "disable_log_stats")
"""Arguments that a server does without: it needs its tokenizer, and keeps its own statistics."""
GRACE_SECONDS = 15.0
"""How much longer than its deadline a load may take to answer: a worker that gives up by itself can say why."""


@dataclass(frozen=True)
class RunningServer:
    """An OpenAI-compatible server that someone else started."""

    url: str
    """Its base, such as `http://127.0.0.1:8000`."""
    names: dict[str, str] = field(default_factory=dict)
    """What the server calls a model of the zoo, where that is neither the model's name here nor its hub name."""


class VllmServer(VllmOffline):
    """A server of the model's own, or `running`, the one that `--perf-server` names."""

    name: ClassVar[str] = "vllm-server"
    worker: ClassVar[Path] = Path(__file__).with_name("server_worker.py")
    operations: ClassVar[frozenset[str]] = frozenset({BENCH.name, RUN.name})
    server: ClassVar[str | None] = "vllm-server"
    suite_arguments: ClassVar[dict[str, Any]] = {
        name: value for name, value in ARGUMENTS.items() if name not in OFFLINE_ONLY
    }

    def __init__(self, running: RunningServer | None = None) -> None:
        self.running = running

    def arguments(self, spec: EngineSpec) -> dict[str, Any]:
        """`EngineArgs` of the server; none for one that is already running."""
        return super().arguments(spec) if self.running is None else {}

    def portable_arguments(self, spec: EngineSpec) -> dict[str, Any]:
        return super().portable_arguments(spec) if self.running is None else {}

    def prepare(self, spec: EngineSpec, folder: Path) -> str:
        """As for the engine without a server, and beside a drawn model's configuration a tokenizer of plain words."""
        model = super().prepare(spec, folder)
        if spec.weights == "seeded":
            write_word_tokenizer(Path(model), spec.model_config()["vocab_size"])
        return model

    def load_request(self, spec: EngineSpec, folder: Path, stages: Mapping[str, float]) -> dict[str, Any]:
        known = [spec.model, *filter(None, [spec.entry.hub])]
        if self.running is not None and spec.model in self.running.names:
            known = [self.running.names[spec.model]]
        return {
            **super().load_request(spec, folder, stages),
            "names": known,
            "command": None if spec.entry.server_command is None else list(spec.entry.server_command),
            "url": None if self.running is None else self.running.url,
            "health_seconds": sum(stages.values()),
            "folder": str(folder),
        }

    def load_patience(self, stages: Mapping[str, float]) -> float:
        """The server is a process of its own, which tells no stages: it has the time of all of them."""
        return sum(stages.values()) + GRACE_SECONDS

    def launch_name(self, spec: EngineSpec) -> str:
        """`nemotron-h-tiny+vllm-server`. A load with arguments of its own has another server, told apart by a hash."""
        own = {**spec.arguments, **spec.environment}
        apart = f"-{definition_hash(json.dumps(own, sort_keys=True))[:6]}" if own else ""
        return f"{spec.name}+{self.name}{apart}"

    def definition(self, spec: EngineSpec) -> list[str]:
        return [json.dumps(spec.entry.server_command), "own" if self.running is None else "running"]
