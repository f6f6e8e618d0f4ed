"""The causal convolution in front of an SSM: x [B, T, D] with D = H · K, weight [D, 4], bias [D]; output [B, T, D]."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench import packages
from hybrid_ops.engines.layer_bench.contender import Contender, Function, Layer
from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TAPS = 4
"""As every released model has it."""


def _inputs(shape: Shape, device: torch.device) -> dict[str, Tensor]:
    import torch

    channels = shape.heads * shape.head_size
    return {
        "x": torch.randn(shape.batch, shape.tokens, channels, device=device),
        "weight": torch.randn(channels, TAPS, device=device),
        "bias": torch.randn(channels, device=device),
    }


def _as_defined(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """y_t = silu(bias + Σ_j weight_j · x_{t − 3 + j}), token by token."""
    import torch

    tokens = []
    for t in range(x.shape[1]):
        taps = [weight[:, j] * x[:, t - TAPS + 1 + j] for j in range(TAPS) if t - TAPS + 1 + j >= 0]
        total = bias + sum(taps)
        tokens.append(total * torch.sigmoid(total))
    return torch.stack(tokens, dim=1)


def _ours(shape: Shape, device: torch.device) -> Function:
    from hybrid_ops.layers.convolution import causal_convolution

    return functools.partial(causal_convolution, activation="silu")


def _torch(shape: Shape, device: torch.device) -> Function:
    from torch.nn.functional import conv1d, silu

    def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = conv1d(x.mT, weight[:, None], bias, padding=TAPS - 1, groups=weight.shape[0])
        return silu(y[..., : x.shape[1]]).mT

    return conv


def _transformers(shape: Shape, device: torch.device) -> Function:
    theirs = packages.transformers_function("mamba2", "causal_conv1d_fn")

    def transformers(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return theirs(x.mT, weight, bias, activation="silu").mT

    return transformers


def _causal_conv1d(shape: Shape, device: torch.device) -> Function:
    module = importlib.import_module("causal_conv1d")

    def dao(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return module.causal_conv1d_fn(x.mT, weight, bias, activation="silu").mT

    return dao


CONVOLUTION = Layer(
    name="convolution",
    title="Causal Convolution",
    inputs=_inputs,
    reference=lambda shape: _as_defined,
    parameters=("weight", "bias"),
    flops=lambda shape: 2 * TAPS * shape.batch * shape.tokens * shape.heads * shape.head_size,
    contenders=(
        Contender("ours", _ours),
        Contender("F.conv1d", _torch),
        Contender(
            "transformers",
            _transformers,
            is_installed=functools.partial(packages.has_transformers, "mamba2", "causal_conv1d_fn"),
        ),
        Contender(
            "causal-conv1d",
            _causal_conv1d,
            platforms=("cuda",),
            is_installed=functools.partial(packages.has_package, "causal_conv1d"),
        ),
    ),
)
