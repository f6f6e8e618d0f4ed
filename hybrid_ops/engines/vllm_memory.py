"""How the memory of a GPU is divided before vLLM starts: the weights, a step's own, and a cache of a fixed size.

vLLM by itself measures what its start leaves free and makes the cache of that, so two launches of one machine can
differ in their blocks. Here the cache follows from the device's memory, the model and the planner alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.models.capacity import plan_cache
from hybrid_ops.models.stack import BYTES_OF_DTYPE, ModelStack

STEP_BYTES = 2 << 30
"""Activations of a step, CUDA graphs and the kernels' own work space. An allowance that was not measured: the metric
`activation_memory_bytes` shows what a GPU needs."""
SAMPLER_BYTES = 16
"""For each sequence and entry of the vocabulary: logits, probabilities and their sorted copies in float32."""
GRAIN = 1 << 28
"""The cache is a multiple of it."""
CACHE_DTYPES = {"auto": None, "fp8": "float8_e4m3fn", "fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2"}
"""vLLM's names for the cache's data type that are not torch's."""


@dataclass(frozen=True)
class MemoryPlan:
    """The bytes of one device."""

    usable: int
    """What vLLM may use."""
    weights: int
    step: int
    least_cache: int
    """Of one sequence of the greatest length."""
    most_cache: int
    """Of as many of them as run at once: more would never be used."""

    @property
    def needed(self) -> int:
        return self.weights + self.step + self.least_cache

    @property
    def fits(self) -> bool:
        return self.needed <= self.usable

    @property
    def cache(self) -> int:
        """The fixed size of the cache."""
        left = self.usable - self.weights - self.step
        return max(min(left, self.most_cache) // GRAIN * GRAIN, self.least_cache)


def plan_memory(model: ModelStack, memory: int, arguments: Mapping[str, Any]) -> MemoryPlan | None:
    """How `memory` bytes of each device are divided under vLLM's `arguments`, which name its utilisation and budgets.

    None where the planner does not know what the arguments ask for.
    """
    tensor_parallel = arguments.get("tensor_parallel_size", 1)
    devices = tensor_parallel * arguments.get("pipeline_parallel_size", 1)
    cache_dtype = arguments.get("kv_cache_dtype", "auto")
    try:
        plan = plan_cache(
            model,
            memory,
            tensor_parallel=tensor_parallel,
            state_dtype=arguments.get("mamba_ssm_cache_dtype", "auto"),
            cache_dtype=CACHE_DTYPES.get(cache_dtype, cache_dtype),
            prefix_caching=bool(arguments.get("enable_prefix_caching")),
            # Under asynchronous scheduling the tokens of two steps are in flight.
            in_flight_tokens=2 * arguments["max_num_batched_tokens"],
        )
    except (InputError, KeyError):
        return None
    sequences = arguments["max_num_seqs"]
    blocks = plan.blocks_per_sequence(arguments["max_model_len"])
    whole = (sequences * blocks + plan.null_blocks) * plan.bytes_per_block
    return MemoryPlan(
        usable=int(memory * arguments["gpu_memory_utilization"]),
        weights=-(-model.parameters * BYTES_OF_DTYPE[model.dtype] // devices),
        step=STEP_BYTES + SAMPLER_BYTES * sequences * model.vocabulary,
        least_cache=(blocks + plan.null_blocks) * plan.bytes_per_block,
        most_cache=-(-whole // GRAIN) * GRAIN,
    )
