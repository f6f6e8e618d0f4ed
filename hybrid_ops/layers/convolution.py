"""Causal depthwise convolution: the short filter over time in front of each SSM and DeltaNet mixer.

Gu & Dao, "Mamba", arXiv 2312.00752, Fig. 3 (the "Conv" box). Each channel has its own W taps:

    y_t = activation(bias + Σ_j weight_j · x_{t − W + 1 + j}),  j = 0 … W − 1,

so `weight[:, W − 1]` multiplies the present token.

Shapes: B batch, T tokens, D channels, W taps. The state is [B, D, W − 1], the last W − 1 inputs, oldest first: just
what the next token needs. (Hugging Face keeps W inputs, vLLM keeps W − 1.)
"""

import torch
from torch import Tensor
from torch.nn import functional

from hybrid_ops.layers.packing import over_sequences
from hybrid_ops.layers.precision import compute_dtype, without_autocast
from hybrid_ops.layers.validation import check_choice, check_shapes


@without_autocast
def causal_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve each channel with its own causal filter (arXiv 2312.00752, Fig. 3; the sum on top of this file).

    Args:
        x: [B, T, D], any floating dtype.
        weight: [D, W], the last tap for the present token.
        bias: [D], or None.
        activation: "silu", or None.
        initial_state: [B, D, W − 1], the inputs before the first token, oldest first; None means zeros.
        cu_seqlens: [N + 1] cumulative lengths of N packed sequences; then B is 1 and states are [N, D, W − 1].

    Returns:
        y: [B, T, D] in the dtype of x.
        final_state: [B, D, W − 1] in the compute dtype.

    Precision: x, weight, bias and state may differ in dtype; the sum over taps, the bias and the activation are in
    promote(all, float32), and y is rounded once, behind the activation. The state keeps its inputs unrounded.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or value.
    """
    states = "B D W-1" if cu_seqlens is None else "N D W-1"
    check_shapes(x=(x, "B T D"), weight=(weight, "D W"), bias=(bias, "D"), initial_state=(initial_state, states))
    check_choice("activation", activation, ("silu", None))
    dtype = compute_dtype(x, weight, bias, initial_state)

    def convolve(sequences: tuple[Tensor, ...], state: Tensor | None) -> tuple[Tensor, Tensor]:
        return _convolve(sequences[0], weight, bias, activation, state, dtype)

    return over_sequences(convolve, (x,), cu_seqlens, initial_state)


@without_autocast
def step_causal_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, state: Tensor, activation: str | None = None
) -> tuple[Tensor, Tensor]:
    """One token of `causal_convolution`.

    Args:
        x: [B, D], any floating dtype.
        weight: [D, W].
        bias: [D], or None.
        state: [B, D, W − 1], the previous inputs, oldest first; it is read, not written.
        activation: "silu", or None.

    Returns:
        y: [B, D] in the dtype of x.
        state: [B, D, W − 1], with the oldest input dropped and x appended, in the compute dtype.

    Precision: x, weight, bias and state may differ in dtype; the sum over taps, the bias and the activation are in
    promote(all, float32), and y is rounded once, behind the activation. The state keeps its inputs unrounded.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or value.
    """
    check_shapes(x=(x, "B D"), weight=(weight, "D W"), bias=(bias, "D"), state=(state, "B D W-1"))
    check_choice("activation", activation, ("silu", None))
    dtype = compute_dtype(x, weight, bias, state)
    window = torch.cat([state.to(dtype), x.to(dtype)[..., None]], dim=-1)  # [B, D, W]
    y = (window * weight.to(dtype)).sum(dim=-1)
    return _finish(y, bias, activation).to(x.dtype), window[..., 1:]


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, state: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    batch, tokens, channels = x.shape
    taps = weight.shape[1]
    before = x.new_zeros(batch, taps - 1, channels) if state is None else state.transpose(1, 2)
    extended = torch.cat([before.to(dtype), x.to(dtype)], dim=1)  # [B, W − 1 + T, D]
    y = extended[:, :tokens] * weight[:, 0].to(dtype)
    for tap in range(1, taps):
        y = y + extended[:, tap : tap + tokens] * weight[:, tap].to(dtype)
    final_state = extended[:, tokens:].transpose(1, 2)  # the last W − 1 inputs
    return _finish(y, bias, activation).to(x.dtype), final_state


def _finish(y: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    if bias is not None:
        y = y + bias.to(y.dtype)
    return functional.silu(y) if activation == "silu" else y
