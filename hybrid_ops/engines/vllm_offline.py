"""vLLM in one process, driven step by step by `vllm_worker.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.engine import Engine
from hybrid_ops.engines.protocol import GENERATE, PROBE_CACHE, PROBE_PREFIX
from hybrid_ops.engines.spec import EngineSpec

ARGUMENTS: dict[str, Any] = {
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
"""Those that fit a launch to its platform, and define no measurement."""


class VllmOffline(Engine):
    """vLLM's engine without a server: closed batches, and probes of its cache."""

    name: ClassVar[str] = "vllm"
    worker: ClassVar[Path] = Path(__file__).with_name("vllm_worker.py")
    operations: ClassVar[frozenset[str]] = frozenset({GENERATE.name, PROBE_CACHE.name, PROBE_PREFIX.name})
    server: ClassVar[str | None] = "vllm-server"
    suite_arguments: ClassVar[dict[str, Any]] = ARGUMENTS

    def arguments(self, spec: EngineSpec) -> dict[str, Any]:
        return {
            **self.suite_arguments,
            **PLATFORM_ARGUMENTS[spec.platform],
            "load_format": "seeded" if spec.weights == "seeded" else "auto",
            **super().arguments(spec),
        }

    def portable_arguments(self, spec: EngineSpec) -> dict[str, Any]:
        return {**self.suite_arguments, **super().portable_arguments(spec)}

    def for_length(self, spec: EngineSpec, tokens: int) -> EngineSpec:
        """With room for `tokens` tokens, even where the model has fewer positions."""
        positions = spec.positions
        beyond = positions is not None and tokens > positions
        environment = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"} if beyond else {}
        return replace(
            spec,
            arguments={"max_model_len": tokens, **spec.arguments},
            environment={**spec.environment, **environment},
        )

    def has_fixed_cache(self, spec: EngineSpec) -> bool:
        return "kv_cache_memory_bytes" in self.arguments(spec)
