"""The selective scan: u and Δ [B, T, D] with D = H · K, B and C [B, T, N], A [D, N]; output [B, T, D]."""

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


def _inputs(shape: Shape, device: torch.device) -> dict[str, Tensor]:
    import torch

    times, channels = (shape.batch, shape.tokens), shape.heads * shape.head_size
    u, dt = torch.randn(*times, channels, device=device), torch.rand(*times, channels, device=device)
    b, c = torch.randn(2, *times, shape.state_size, device=device)
    return {"u": u, "B": b, "C": c, "dt": dt, "A": -torch.rand(channels, shape.state_size, device=device)}


def _recurrent(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
    from hybrid_ops.layers.selective_scan import recurrent_selective_scan

    return recurrent_selective_scan(u, b, c, dt=dt, A=a)


def _ours(shape: Shape, device: torch.device) -> Function:
    from hybrid_ops.layers.selective_scan import chunked_selective_scan

    def ours(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return chunked_selective_scan(u, b, c, dt=dt, A=a)

    return ours


def _transformers(shape: Shape, device: torch.device) -> Function:
    scan = packages.transformers_function("mamba", "mamba_selective_scan")

    def transformers(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return scan(*(x.mT for x in (u, dt)), a, b.mT, c.mT, return_last_state=True)

    return transformers


def _mamba_ssm(shape: Shape, device: torch.device) -> Function:
    module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")

    def mamba_ssm(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return module.selective_scan_fn(u.mT, dt.mT, a, b.mT, c.mT).mT

    return mamba_ssm


SELECTIVE_SCAN = Layer(
    name="selective_scan",
    title="Selective Scan (Mamba-1)",
    flops=lambda shape: 5 * shape.batch * shape.tokens * shape.heads * shape.head_size * shape.state_size,
    inputs=_inputs,
    reference=lambda shape: _recurrent,
    gates=("dt", "A"),
    parameters=("A",),
    # The gradient of transformers' token loop takes time quadratic in T, minutes at 2048.
    most_backward_tokens=256,
    contenders=(
        Contender("ours", _ours),
        Contender("ours, recurrent", lambda shape, device: _recurrent),
        Contender(
            "transformers",
            _transformers,
            is_installed=functools.partial(packages.has_transformers, "mamba", "mamba_selective_scan"),
            output=lambda result: result[0].mT,  # channels come before time
        ),
        Contender(
            "mamba-ssm",
            _mamba_ssm,
            platforms=("cuda",),
            is_installed=functools.partial(packages.has_package, "mamba_ssm"),
        ),
    ),
)
