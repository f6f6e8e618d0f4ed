"""Sliding-window attention: q, k, v [B, T, H, K]; output [B, T, H, K]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench import packages
from hybrid_ops.engines.layer_bench.contender import CHECKED_TOKENS, Contender, Function, Layer
from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _inputs(shape: Shape, device: torch.device) -> dict[str, Tensor]:
    import torch

    sizes = (shape.batch, shape.tokens, shape.heads, shape.head_size)
    return {name: torch.randn(*sizes, device=device) for name in ("query", "key", "value")}


def _seen(shape: Shape, device: torch.device) -> Tensor:
    """[T, T], True where the query (row) sees the key (column)."""
    import torch

    distance = torch.arange(shape.tokens, device=device)[:, None] - torch.arange(shape.tokens, device=device)
    return (distance >= 0) & (distance < shape.window)


def _reference(shape: Shape) -> Function:
    def dense_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        scores = (q @ k.mT * shape.head_size**-0.5).masked_fill(~_seen(shape, q.device), float("-inf"))
        return (scores.softmax(dim=-1) @ v).transpose(1, 2)

    return dense_softmax


def _ours(shape: Shape, device: torch.device) -> Function:
    from hybrid_ops.layers.attention import sliding_window_attention

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sliding_window_attention(q, k, v, window=shape.window)

    return ours


def _dense(shape: Shape, device: torch.device) -> Function:
    from torch.nn.functional import scaled_dot_product_attention

    def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, attn_mask=_seen(shape, device))

    return dense


def _causal(shape: Shape, device: torch.device) -> Function:
    from torch.nn.functional import scaled_dot_product_attention

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, is_causal=True)

    return causal


def _flex(shape: Shape, device: torch.device) -> Function:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    from hybrid_ops.layers.masks import sliding_window

    mask = create_block_mask(sliding_window(shape.window), None, None, shape.tokens, shape.tokens, device=device)
    kernel: Function = torch.compile(flex_attention, dynamic=False)

    def flex(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return kernel(*(x.transpose(1, 2) for x in (q, k, v)), block_mask=mask)

    return flex


def _time_major(result: Tensor) -> Tensor:
    """[B, H, T, K] → [B, T, H, K]."""
    return result.transpose(1, 2)


WINDOW = Layer(
    name="window",
    inputs=_inputs,
    reference=_reference,
    checked_tokens=lambda shape: shape.window + CHECKED_TOKENS,  # within the window it would be plain causal attention
    contenders=(
        Contender("ours", _ours),
        Contender("SDPA, dense mask", _dense, output=_time_major),
        Contender("SDPA, full causal", _causal, output=_time_major, is_yardstick=True),
        Contender("FlexAttention", _flex, output=_time_major, platforms=("cuda",), is_installed=packages.has_triton),
    ),
)
