"""What vLLM's CPU build lacks for recurrent layers: reference kernels built on `hybrid_ops.layers`.

| file                 | models                    | what the CPU build (0.32) lacks                                   |
|----------------------|---------------------------|-------------------------------------------------------------------|
| `selective_scan`     | Mamba, FalconMamba, Jamba | the selective scan; its single step has one decay a head          |
| `delta_rule`         | OLMo-Hybrid               | the gated delta rule and its gates, which are Triton kernels      |
| `prefill_checkpoint` | all with Mamba-2          | with prefix caching, the state at a block's end within a prefill  |
| `recycled_blocks`    | states beside windows     | clearing a block that held a state before a window uses it        |

Only what is missing is replaced: on another platform, or where the build has the operation, nothing is. An operation
counts as replaced, and is logged, when a model that uses it is built; `replaced` then holds it. Times measured with
such an operation are not the engine's own.

`HYBRID_OPS_FALLBACKS=0` leaves the engine as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

FALLBACKS_VARIABLE = "HYBRID_OPS_FALLBACKS"
REPLACED_VARIABLE = "HYBRID_OPS_REPLACED"
"""Names a file to which each replaced operation is added, for whoever started the engine in another process."""

replaced: set[str] = set()
"""The operations, by vLLM's names for them, that the models built in this process get from here."""


def register() -> None:
    """Offer the fallbacks to the models that are built from now on, if this engine runs on a CPU."""
    from vllm.platforms import current_platform

    if os.environ.get(FALLBACKS_VARIABLE, "1") == "0" or not current_platform.is_cpu():
        return
    from hybrid_ops.engines.vllm_plugins.fallbacks import (
        delta_rule,
        prefill_checkpoint,
        recycled_blocks,
        selective_scan,
    )

    selective_scan.register()
    delta_rule.register()
    prefill_checkpoint.register()
    recycled_blocks.register()


def note_replaced(*operations: str) -> None:
    """Record and log that a model being built gets these operations from here."""
    from vllm.logger import init_logger

    logger = init_logger("vllm.hybrid_ops")
    for operation in operations:
        if operation not in replaced:
            replaced.add(operation)
            if path := os.environ.get(REPLACED_VARIABLE):
                with Path(path).open("a", encoding="utf-8") as file:
                    file.write(f"{operation}\n")
            logger.warning(
                "%s is not in this build of vLLM: hybrid_ops replaces it; times with it are not vLLM's", operation
            )
