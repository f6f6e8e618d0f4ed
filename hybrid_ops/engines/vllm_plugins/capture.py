"""How long the capture of CUDA graphs takes and how much memory the graphs hold: vLLM only logs it."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any


@dataclass
class Captured:
    """The last capture in this process. What a graph allocates is in a pool of its own, which no peak shows."""

    seconds: float | None = None
    bytes: int = 0


captured = Captured()


def register() -> None:
    """Watch the capture, if this engine runs on CUDA."""
    from vllm.platforms import current_platform

    if current_platform.is_cuda_alike():
        from vllm.v1.worker.gpu.model_runner import GPUModelRunner as SecondRunner
        from vllm.v1.worker.gpu_model_runner import GPUModelRunner as FirstRunner

        for runner in (FirstRunner, SecondRunner):
            runner.capture_model = watched(runner.capture_model)


def watched(capture_model: Any) -> Any:
    """`capture_model`, which returns the bytes that it took; they and its time are kept. Trial captures come first."""

    @functools.wraps(capture_model)
    def wrapper(*arguments: Any, **keywords: Any) -> int:
        start = time.perf_counter()
        taken = capture_model(*arguments, **keywords)
        captured.seconds, captured.bytes = time.perf_counter() - start, int(taken or 0)
        return taken

    return wrapper
