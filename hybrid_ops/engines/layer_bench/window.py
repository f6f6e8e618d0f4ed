"""Sliding-window attention: q, k, v [B, T, H, K]; output [B, T, H, K]."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench import attention, packages
from hybrid_ops.engines.layer_bench.contender import CHECKED_TOKENS, Contender, Function, Layer
from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FLOOR_BLOCK = 128


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


def _floor(shape: Shape, device: torch.device) -> Function:
    def floor(q: Tensor, k: Tensor, v: Tensor) -> None:
        """The two matmuls of each block of queries with the keys that any of them sees, and no softmax."""
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
        for start in range(0, shape.tokens, FLOOR_BLOCK):
            end = min(start + FLOOR_BLOCK, shape.tokens)
            seen = slice(max(0, start + 1 - shape.window), end)
            q[:, :, start:end] @ k[:, :, seen].mT @ v[:, :, seen]

    return floor


_MODS: dict[str, Any] = {"mask": attention.sliding_window, "score": None}

WINDOW = Layer(
    name="window",
    inputs=attention.inputs,
    reference=_reference,
    checked_tokens=lambda shape: shape.window + CHECKED_TOKENS,  # within the window it would be plain causal attention
    contenders=(
        Contender("ours", functools.partial(attention.ours, **_MODS)),
        Contender("SDPA, dense mask", functools.partial(attention.dense_sdpa, **_MODS), output=attention.time_major),
        Contender("SDPA, full causal", attention.causal_sdpa, output=attention.time_major, is_yardstick=True),
        Contender("matmul floor", _floor, has_backward=False, is_yardstick=True, platforms=("cpu",)),
        Contender(
            "FlexAttention",
            functools.partial(attention.compiled_flex, **_MODS),
            output=attention.time_major,
            platforms=("cuda",),
            is_installed=packages.has_triton,
        ),
    ),
)
