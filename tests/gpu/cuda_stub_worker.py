"""The worker of the stub of a CUDA engine: the no-op worker's answers, with those of a GPU.

Beside the no-op worker's arguments it takes

    ignores_injection  compute at the same speed whatever is injected, as a host that spins beside a busy device (false)
    other_kernels      which launches choose other kernels, by number, and so round in another way (none)
    idle_steps         engine steps of a batch in which the model computes nothing, as asynchronous scheduling has (1)
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybrid_ops.engines.noop_worker import BYTES_PER_BLOCK, MODEL_BYTES, NoopWorker
from hybrid_ops.engines.protocol import (
    CAPTURE_STAGE,
    COMPILE_STAGE,
    CacheLayout,
    DeviceFacts,
    GenerationSample,
    LoadFacts,
    RankMemory,
    begin_stage,
    serve,
)

ACTIVATION_BYTES = 250_000
COMPILE_SECONDS, CAPTURE_SECONDS = 9.0, 3.0


class CudaStubWorker(NoopWorker):
    def __init__(self) -> None:
        super().__init__()
        self.launch = ""

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        if arguments.get("ignores_injection"):
            os.environ.pop("HYBRID_OPS_INJECT", None)
        self.launch = Path(model).parent.name
        facts = super().load(model, arguments)
        begin_stage(COMPILE_STAGE)
        self._fail_if_told(COMPILE_STAGE)
        begin_stage(CAPTURE_STAGE)
        is_eager = arguments["enforce_eager"]
        assert facts.cache is not None
        return replace(
            facts,
            cache=replace(facts.cache, num_blocks=arguments["kv_cache_memory_bytes"] // BYTES_PER_BLOCK),
            device=DeviceFacts(
                "cuda", "a stub of a GPU", os.environ["CUDA_VISIBLE_DEVICES"], memory_bytes=None, threads=None
            ),
            compile_seconds=None if is_eager else COMPILE_SECONDS,
            capture_seconds=None if is_eager else CAPTURE_SECONDS,
            unknown_variables=[name for name in os.environ if name.startswith("VLLM_")],
        )

    def generate(self, **request: Any) -> GenerationSample:
        sample = super().generate(**request)
        cache = self.arguments["kv_cache_memory_bytes"]
        is_other = self.launch in map(str, self.arguments.get("other_kernels", []))
        own = "ff" if is_other else ""
        return replace(
            sample,
            steps=[(0.0, 0)] * self.arguments.get("idle_steps", 1) + sample.steps,
            output_hash=own + sample.output_hash,
            leading_tokens=[[*tokens[:-1], tokens[-1] + is_other] for tokens in sample.leading_tokens],
            peak_memory_bytes=MODEL_BYTES + ACTIVATION_BYTES,
            ranks=[RankMemory(MODEL_BYTES, cache, graphs=0, activations=ACTIVATION_BYTES)],
            kernel_choices={"a scan (64, 128)": f"BLOCK_SIZE_M: {64 if is_other else 32}"},
        )

    def probe_cache(self, lengths: list[int]) -> CacheLayout:
        blocks = self.arguments["kv_cache_memory_bytes"] // BYTES_PER_BLOCK
        return replace(super().probe_cache(lengths), num_blocks=blocks)


def main() -> None:
    worker = CudaStubWorker()
    serve(
        {
            "load": worker.load,
            "generate": worker.generate,
            "probe_cache": worker.probe_cache,
            "probe_prefix": worker.probe_prefix,
        }
    )


if __name__ == "__main__":
    main()
