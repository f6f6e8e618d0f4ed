"""vLLM in one process, driven step by step by `vllm_worker.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.engine import CacheSize, Engine
from hybrid_ops.engines.protocol import GENERATE, PROBE_CACHE, PROBE_PREFIX, SCORE
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_memory import MemoryPlan, plan_memory
from hybrid_ops.errors import InputError

ARGUMENTS: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "max_model_len": 2304,
    "disable_log_stats": False,
    "seed": 42,
}
"""vLLM `EngineArgs` of every launch, unless the platform, the model or the configuration says otherwise. Without log
statistics per-request metrics are None."""
PLATFORM_ARGUMENTS: dict[str, dict[str, Any]] = {
    "cpu": {"kv_cache_memory_bytes": 1 << 28},
    "cuda": {
        "enforce_eager": False,
        "max_num_batched_tokens": 8192,
        "max_num_seqs": 256,
        "gpu_memory_utilization": 0.9,
    },
    "server": {},
}
"""Those of a platform. On CUDA they are what people run: compiled, in CUDA graphs, with the budgets of a server. Said
aloud, because an engine that is made by hand has a quarter of them (2,048 tokens and 128 sequences a step). What holds
on every machine, such as the number of tokens, does not depend on them."""
CPU_STATE_DTYPE = "float32"
"""In which recurrent states are kept on a CPU. vLLM's own choice is this one where the processor has AVX-512 BF16, and
the model's data type on others, so that cache sizes would differ between processors."""
KERNELS_BY_ORDER = "VLLM_TRITON_FORCE_FIRST_CONFIG"
"""vLLM's variable for Triton kernels that take the first tiles that work, in place of the fastest."""


def _state_arguments(spec: EngineSpec) -> dict[str, Any]:
    """What makes recurrent states the same on every processor."""
    if spec.platform != "cpu":
        return {}
    try:
        return {"mamba_ssm_cache_dtype": CPU_STATE_DTYPE} if spec.layer_stack().recurrent else {}
    except InputError:
        return {}


class VllmOffline(Engine):
    """vLLM's engine without a server: closed batches, and probes of its cache."""

    name: ClassVar[str] = "vllm"
    worker: ClassVar[Path] = Path(__file__).with_name("vllm_worker.py")
    operations: ClassVar[frozenset[str]] = frozenset({GENERATE.name, PROBE_CACHE.name, PROBE_PREFIX.name, SCORE.name})
    server: ClassVar[str | None] = "vllm-server"
    without_kept_code: ClassVar[Mapping[str, str]] = {
        "VLLM_DISABLE_COMPILE_CACHE": "1",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    }
    suite_arguments: ClassVar[dict[str, Any]] = ARGUMENTS

    def arguments(self, spec: EngineSpec) -> dict[str, Any]:
        chosen = self._chosen(spec)
        plan = self._memory(spec)
        if plan is None or "kv_cache_memory_bytes" in chosen:
            return chosen
        return {**chosen, "kv_cache_memory_bytes": plan.cache}

    def _chosen(self, spec: EngineSpec) -> dict[str, Any]:
        """All arguments but the size of a cache that follows from the device's memory."""
        return {
            **self.suite_arguments,
            **PLATFORM_ARGUMENTS[spec.platform],
            **_state_arguments(spec),
            "load_format": "seeded" if spec.weights == "seeded" else "auto",
            **super().arguments(spec),
        }

    def _memory(self, spec: EngineSpec) -> MemoryPlan | None:
        """How the device's memory is divided; None where it or the model's layers are not known."""
        if spec.memory_bytes is None:
            return None
        try:
            return plan_memory(spec.layer_stack(), spec.memory_bytes, self._chosen(spec))
        except InputError:
            return None

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

    def cache_size(self, spec: EngineSpec) -> CacheSize:
        if self._chosen(spec).get("kv_cache_memory_bytes") is not None:
            return CacheSize.ARGUMENTS
        has_plan = self.arguments(spec).get("kv_cache_memory_bytes") is not None
        return CacheSize.DEVICE if has_plan else CacheSize.FREE_MEMORY

    def repeats_kernels(self, spec: EngineSpec) -> bool:
        """On CUDA, compiled kernels and those of recurrent layers choose their tiles by timing."""
        if "enforce_eager" not in PLATFORM_ARGUMENTS[spec.platform]:
            return True
        if not self._chosen(spec)["enforce_eager"]:
            return False
        if spec.environment.get(KERNELS_BY_ORDER) == "1":
            return True
        try:
            return not spec.layer_stack().recurrent
        except InputError:
            return False

    def compiles(self, spec: EngineSpec) -> bool:
        return not self._chosen(spec)["enforce_eager"]

    def misfit(self, spec: EngineSpec) -> str | None:
        plan = self._memory(spec)
        if plan is None or plan.fits:
            return None
        there = (spec.memory_bytes or 0) / 1e9
        parts = {"weights": plan.weights, "a step": plan.step, "the cache of one sequence": plan.least_cache}
        told = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
        return (
            f"{spec.name} needs {plan.needed / 1e9:.1f} GB ({told}), and may use {plan.usable / 1e9:.1f} GB of the "
            f"{there:.1f} GB that the device has"
        )

    def beside_another(self, spec: EngineSpec) -> EngineSpec | None:
        """On a GPU each has half of the memory that one would have, where the model fits into that."""
        if spec.platform in self.shared_platforms or spec.memory_bytes is None:
            return super().beside_another(spec)
        halved = spec.with_sizing({"gpu_memory_utilization": self._chosen(spec)["gpu_memory_utilization"] / 2})
        plan = self._memory(halved)
        if plan is None or "gpu_memory_utilization" in spec.arguments:
            return None
        cache = self.arguments(halved)["kv_cache_memory_bytes"]
        return halved if cache is not None and plan.weights + plan.step + cache <= plan.usable else None
