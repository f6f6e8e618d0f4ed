"""Convolution weights as they were loaded.

On a CPU with bfloat16 instructions vLLM repacks each bfloat16 convolution weight of width 4 for a kernel that Qwen's
layers alone call. The layers of Mamba-1 and OLMo-Hybrid read the weight itself and fail on the packed form
(`Dimension out of range`), though the kernels that they call do take it unpacked.
"""

from __future__ import annotations

import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod


class UnpackedWeight(UnquantizedLinearMethod):
    """The method of a linear layer that only holds a convolution's weight and is never called."""

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Leave the weight as it is."""


def keep_unpacked(convolution: LinearBase) -> None:
    """Keep the weight of `convolution` from being repacked after it is loaded."""
    convolution.quant_method = UnpackedWeight()
