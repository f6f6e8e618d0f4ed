"""OLMo-Hybrid on a CPU: the gated delta rule, its gates, and nothing of Triton.

vLLM's OLMo-Hybrid layer calls Triton kernels throughout; a CPU build has no Triton, and its own CPU kernels of the
rule serve Qwen's layer alone. vLLM's state is [slots, HV, V, K], transposed against `hybrid_ops.layers.delta_rule`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from vllm.model_executor.layers.mamba.gdn import olmo_gdn_linear_attn
from vllm.model_executor.layers.mamba.gdn.olmo_gdn_linear_attn import OlmoHybridGatedDeltaNetAttention
from vllm.triton_utils import HAS_TRITON

from hybrid_ops.engines.vllm_plugins.fallbacks import note_replaced
from hybrid_ops.engines.vllm_plugins.fallbacks.convolution import keep_unpacked
from hybrid_ops.layers.delta_rule import chunked_delta_rule, step_delta_rule


class ReferenceOlmoGatedDeltaNet(OlmoHybridGatedDeltaNetAttention):
    """vLLM's OLMo-Hybrid layer, on the functions below."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        keep_unpacked(self.conv1d)
        load_part = self.conv1d.weight.weight_loader
        self.conv1d.weight.weight_loader = functools.partial(load_convolution, load_part)
        note_replaced("chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule", "fused_olmo_hybrid_gdn_gating")


def register() -> None:
    """Have OLMo-Hybrid's layers built as `ReferenceOlmoGatedDeltaNet` where there is no Triton."""
    if HAS_TRITON:
        return
    name = OlmoHybridGatedDeltaNetAttention.__name__
    OlmoHybridGatedDeltaNetAttention.register_oot(ReferenceOlmoGatedDeltaNet, name=name)
    olmo_gdn_linear_attn.set_triton_allocator = no_triton_allocator
    olmo_gdn_linear_attn.fused_olmo_hybrid_gdn_gating = gates
    olmo_gdn_linear_attn.chunk_gated_delta_rule = prefill
    olmo_gdn_linear_attn.fused_recurrent_gated_delta_rule = decode


def load_convolution(load_part: Callable[..., None], parameter: Tensor, loaded: Tensor) -> None:
    """Load one of the three convolutions that the layer fuses: vLLM 0.32 hands on which as the weight's `shard_id`.

    The layer's own loader waits for it as an argument and fails on any checkpoint (`list indices must be integers`).
    """
    load_part(parameter, loaded, loaded.shard_id)  # type: ignore[attr-defined]


def no_triton_allocator(device: torch.device) -> None:
    """Nothing: there is no Triton to give memory to."""


def gates(
    A_log: Tensor, a: Tensor, b: Tensor, dt_bias: Tensor, allow_neg_eigval: bool = False
) -> tuple[Tensor, Tensor]:
    """vLLM's `fused_olmo_hybrid_gdn_gating`: A_log, dt_bias [HV], a, b [T, HV] → log-decay and β, both [1, T, HV]."""
    log_decay = -A_log.float().exp() * functional.softplus(a.float() + dt_bias.float())
    beta = torch.sigmoid(b.float()) * (2.0 if allow_neg_eigval else 1.0)
    return log_decay[None], beta[None]


def prefill(
    *,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor,
    output_final_state: bool,
    cu_seqlens: Tensor,
    use_qk_l2norm_in_kernel: bool,
) -> tuple[Tensor, Tensor]:
    """vLLM's `chunk_gated_delta_rule` for S packed sequences of T tokens in all.

    Args:
        q, k: [1, T, HV, K]. v: [1, T, HV, V]. g, beta: [1, T, HV]. initial_state: [S, HV, V, K].
        output_final_state: must be true. cu_seqlens: [S + 1].
        use_qk_l2norm_in_kernel: divide queries and keys by their length.

    Returns:
        The output [1, T, HV, V] and the final states [S, HV, V, K] in float32.
    """
    output, state = chunked_delta_rule(
        q,
        k,
        v,
        beta=beta,
        log_decay=g,
        normalise=use_qk_l2norm_in_kernel,
        initial_state=initial_state.mT,
        cu_seqlens=cu_seqlens,
    )
    return output, state.mT


def decode(
    *,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor,
    inplace_final_state: bool,
    cu_seqlens: Tensor,
    ssm_state_indices: Tensor,
    use_qk_l2norm_in_kernel: bool,
    num_accepted_tokens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """vLLM's `fused_recurrent_gated_delta_rule` for one token of each of S sequences.

    Args:
        q, k: [1, S, HV, K]. v: [1, S, HV, V]. g, beta: [1, S, HV]. cu_seqlens: [S + 1].
        initial_state: [slots, HV, V, K]; the slots `ssm_state_indices` [S or more] are written in place.
        inplace_final_state: must be true.
        use_qk_l2norm_in_kernel: divide queries and keys by their length.
        num_accepted_tokens: must be None.

    Returns:
        The output [1, S, HV, V] and `initial_state`.

    Raises:
        NotImplementedError: for speculative decoding, which steps over several tokens of a sequence.
    """
    if num_accepted_tokens is not None:
        raise NotImplementedError("hybrid_ops has no reference kernel for speculative decoding of OLMo-Hybrid")
    slots = ssm_state_indices[: cu_seqlens.shape[0] - 1]
    output, state = step_delta_rule(
        q[0],
        k[0],
        v[0],
        beta=beta[0],
        log_decay=g[0],
        normalise=use_qk_l2norm_in_kernel,
        state=initial_state[slots].mT,
    )
    initial_state[slots] = state.mT.to(initial_state.dtype)
    return output[None], initial_state
