"""Mamba-2 with prefix caching on a CPU: the state at the end of a block.

vLLM's Mamba-2 layer tells the scheduler that it can store the state at a block's end from within one prefill. For that
it needs the scan's state after each chunk, of which the CPU kernel gives only the last (`index N is out of bounds`),
and then a Triton kernel to store it. A layer that does not promise it is scheduled as Mamba-1's is: a prefill stops at
the block's end, and the state is simply there. So nothing is computed by a reference kernel, but a prompt takes a step
more, and its times are not those of a build that has the checkpoint.
"""

from __future__ import annotations

from typing import Any

from vllm.model_executor.layers.mamba.abstract import MambaBase
from vllm.model_executor.layers.mamba.mamba_mixer2 import MambaMixer2
from vllm.triton_utils import HAS_TRITON

from hybrid_ops.engines.vllm_plugins.fallbacks import note_replaced


class SteppedMambaMixer2(MambaMixer2):
    """vLLM's Mamba-2 layer, without the promise of checkpoints."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if self.cache_config is not None and self.cache_config.mamba_cache_mode == "align":
            note_replaced("store_prefill_checkpoint")

    def get_kv_cache_spec(self, vllm_config: Any) -> Any:
        """The plain description of the layer's cache, as vLLM's other recurrent layers give it."""
        return MambaBase.get_kv_cache_spec(self, vllm_config)


def register() -> None:
    """Have Mamba-2 layers built as `SteppedMambaMixer2` where there is no Triton to store a checkpoint with."""
    if HAS_TRITON:
        return
    MambaMixer2.register_oot(SteppedMambaMixer2, name=MambaMixer2.__name__)
