"""Mamba-1 on a CPU: the selective scan over a prompt and its single step.

vLLM's CPU build has no `_C.selective_scan_fwd`. Its `_C.selective_state_update_cpu` is Mamba-2's: it takes a state
with heads and reads one decay and one Δ a head, so that Mamba-1, whose decays differ in each channel, gets an
IndexError from it (and with the shapes adapted, wrong numbers).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from vllm.model_executor.layers.mamba import mamba_mixer
from vllm.model_executor.layers.mamba.mamba_mixer import MambaMixer

from hybrid_ops.engines.vllm_plugins.fallbacks import note_replaced
from hybrid_ops.engines.vllm_plugins.fallbacks.convolution import keep_unpacked
from hybrid_ops.layers.selective_scan import chunked_selective_scan, step_selective_scan


class ReferenceMambaMixer(MambaMixer):
    """vLLM's Mamba-1 layer, on the functions below."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        keep_unpacked(self.conv1d)
        # Makes the inputs of projections contiguous, as LoRA's kernels want them, and the CPU's for small matrices.
        self.is_lora_enabled = True
        note_replaced("selective_scan_fn", "selective_state_update")


def register() -> None:
    """Have Mamba-1 layers built as `ReferenceMambaMixer` where the build has no selective scan."""
    if hasattr(torch.ops._C, "selective_scan_fwd"):
        return
    MambaMixer.register_oot(ReferenceMambaMixer, name="MambaMixer")
    mamba_mixer.selective_scan_fn = scan
    mamba_mixer.selective_state_update = step


def scan(
    u: Tensor,
    ssm_states: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor | None,
    *,
    delta_softplus: bool,
    cache_indices: Tensor,
    has_initial_state: Tensor,
    query_start_loc: Tensor,
    **chunk_layout: Any,
) -> Tensor:
    """vLLM's `selective_scan_fn`, for packed sequences: the same arguments, the same effect.

    Args:
        u: [D, T], the convolved inputs of S packed sequences of T tokens in all.
        ssm_states: [slots, D, N]; the slots of these sequences are written in place.
        delta: [D, T], Δ before its bias and softplus.
        A: [D, N]. B, C: [N, T]. D: [D]. z: [D, T], the gate. delta_bias: [D], or None.
        delta_softplus: whether Δ goes through a softplus.
        cache_indices: [S], the slot of each sequence.
        has_initial_state: [S], whether a sequence goes on from its slot's state or starts from zeros.
        query_start_loc: [S + 1], cumulative lengths.
        chunk_layout: how vLLM's kernel divides the sequences; it changes nothing of the result.

    Returns:
        [D, T], y · silu(z), in the dtype of u.
    """
    states = ssm_states[cache_indices].float() * has_initial_state[:, None, None]
    y, final = chunked_selective_scan(
        u.T[None].float(),
        B.T[None].float(),
        C.T[None].float(),
        dt=_step_sizes(delta.T, delta_bias, delta_softplus)[None],
        A=A,
        D=D,
        initial_state=states,
        cu_seqlens=query_start_loc,
    )
    ssm_states[cache_indices] = final.to(ssm_states.dtype)
    return (y[0].T * functional.silu(z.float())).to(u.dtype)


def step(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor | None,
    *,
    z: Tensor,
    dt_softplus: bool,
    state_batch_indices: Tensor,
    dst_state_batch_indices: Tensor,
    out: Tensor,
) -> None:
    """vLLM's `selective_state_update` as Mamba-1 calls it: one token of each of S sequences.

    Args:
        state: [slots, D, N]; read at `state_batch_indices` [S, 1] and written at `dst_state_batch_indices` [S, 1].
        x, dt, z: [S, D]. A: [D, N]. B, C: [S, N]. D, dt_bias: [D].
        dt_softplus: whether Δ goes through a softplus.
        out: [S, D], written with y · silu(z).
    """
    y, after = step_selective_scan(
        x.float(),
        B.float(),
        C.float(),
        dt=_step_sizes(dt, dt_bias, dt_softplus),
        A=A,
        D=D,
        state=state[state_batch_indices[:, 0]],
    )
    state[dst_state_batch_indices[:, 0]] = after.to(state.dtype)
    out.copy_(y * functional.silu(z.float()))


def _step_sizes(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    """Δ [..., D] in float32, after its bias and softplus."""
    delta = delta.float() if bias is None else delta.float() + bias.float()
    return functional.softplus(delta) if softplus else delta
