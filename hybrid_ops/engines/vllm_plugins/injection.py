"""A slow-down of each engine step by a known share (`HYBRID_OPS_INJECT`), so that anyone can see the gate catch one."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

INJECT_VARIABLE = "HYBRID_OPS_INJECT"


def register() -> None:
    """Slow the engine down by the share that the environment names; nothing where it names none."""
    if share := float(os.environ.get(INJECT_VARIABLE, "0")):
        _slow_down_steps(share)


def _slow_down_steps(share: float) -> None:
    """Make each engine step last longer by `share` of its own time, inside the engine."""
    from vllm.v1.engine.core import EngineCore

    def slowed(step: Any) -> Any:
        @functools.wraps(step)
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            outputs = step(*arguments, **keywords)
            end = time.perf_counter()
            resume = end + share * (end - start)
            while time.perf_counter() < resume:  # spinning, because a sleep would let the processor's clock drop
                pass
            return outputs

        return wrapper

    EngineCore.step = slowed(EngineCore.step)
    EngineCore.step_with_batch_queue = slowed(EngineCore.step_with_batch_queue)
