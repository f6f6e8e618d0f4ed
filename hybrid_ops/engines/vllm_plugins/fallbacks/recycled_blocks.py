"""Sliding windows beside recurrent states on a CPU: blocks that held a state are cleared before a window uses them.

Attention and states share one pool of blocks. A float32 state read as bfloat16 keys and values may be NaN, which a mask
does not hide, since 0 · NaN = NaN. So vLLM clears new blocks of attention where there are states (its pull request
35219), but its CPU runner (0.32) only those of full attention. Here those of sliding windows are cleared in the same
way: memory is set to zero, no kernel is replaced, and times stay the engine's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from vllm.v1.kv_cache_interface import KVCacheConfig, SlidingWindowSpec
from vllm.v1.worker.cpu_model_runner import CPUModelRunner


def register() -> None:
    """Have the CPU runner clear new blocks of sliding-window layers as well."""
    clear_full_attention = CPUModelRunner._zero_block_ids

    def clear_all_attention(self: CPUModelRunner, block_ids: list[int]) -> None:
        clear_full_attention(self, block_ids)
        layers = self.compilation_config.static_forward_context
        for name in sliding_window_layers(self.kv_cache_config):
            layers[name].kv_cache[block_ids] = 0

    CPUModelRunner._zero_block_ids = clear_all_attention


def sliding_window_layers(cache: KVCacheConfig) -> Sequence[str]:
    """The names of the layers that vLLM's own method passes over."""
    groups = (group for group in cache.kv_cache_groups if isinstance(group.kv_cache_spec, SlidingWindowSpec))
    return [name for group in groups for name in group.layer_names]
