"""SSD: x [B, T, H, P], B and C [B, T, 1, N] with N = P, Δ [B, T, H], A [H]; output [B, T, H, P]."""

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

FLOOR_CHUNK = 64


def _inputs(shape: Shape, device: torch.device) -> dict[str, Tensor]:
    import torch

    times = (shape.batch, shape.tokens)
    x = torch.randn(*times, shape.heads, shape.head_size, device=device)
    b, c = torch.randn(2, *times, 1, shape.head_size, device=device)
    dt = torch.rand(*times, shape.heads, device=device)
    return {"x": x, "B": b, "C": c, "dt": dt, "A": -torch.rand(shape.heads, device=device)}


def _reference(shape: Shape) -> Function:
    from hybrid_ops.layers.ssd import recurrent_ssd

    def recurrent(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return recurrent_ssd(x, b, c, dt=dt, A=a)

    return recurrent


def _ours(shape: Shape, device: torch.device) -> Function:
    from hybrid_ops.layers.ssd import chunked_ssd

    def ours(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return chunked_ssd(x, b, c, dt=dt, A=a)

    return ours


def _transformers(shape: Shape, device: torch.device, chunk_size: int) -> Function:
    scan = packages.transformers_function("mamba2", "mamba2_chunk_scan")

    def transformers(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return scan(x, dt, a, b, c, chunk_size=chunk_size, return_final_states=True)

    return transformers


def _vllm(shape: Shape, device: torch.device) -> Function:
    import torch

    kernels = packages.vllm_kernels()
    boundaries = torch.arange(shape.batch + 1, dtype=torch.int32) * shape.tokens

    def vllm(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        y = torch.empty_like(x)
        state = torch.zeros(shape.batch, shape.heads, shape.head_size, shape.head_size)
        out, x, b, c, dt = (tensor.flatten(0, 1) for tensor in (y, x, b, c, dt))  # the batch's sequences are packed
        kernels.mamba_chunk_scan_fwd_cpu(out, state, x, dt, a, b, c, None, None, boundaries)
        return y, state

    return vllm


def _floor(shape: Shape, device: torch.device) -> Function:
    def floor(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> None:
        """The four matmuls of the paper's Listing 1 at C = 64, batched and contiguous, and nothing else."""
        chunks = shape.batch * shape.tokens // FLOOR_CHUNK
        b, c = (y.flatten(0, 2)[: chunks * FLOOR_CHUNK].view(chunks, FLOOR_CHUNK, -1) for y in (b, c))
        x = x.flatten(0, 1)[: chunks * FLOOR_CHUNK].view(chunks, FLOOR_CHUNK, -1)  # [NC, C, H·P]
        heads = x.view(chunks * shape.heads, FLOOR_CHUNK, -1)
        scores = c @ b.mT
        scores.repeat_interleave(shape.heads, dim=0) @ heads
        states = b.mT @ x
        c @ states

    return floor


def _floor_flops(shape: Shape) -> int:
    """The scores of a chunk once; a head has products of C × C with C × P, of N × C with C × P, of C × N with N × P."""
    size = shape.head_size
    a_chunk = 2 * FLOOR_CHUNK * size * (FLOOR_CHUNK + shape.heads * (FLOOR_CHUNK + 2 * size))
    return shape.batch * shape.tokens // FLOOR_CHUNK * a_chunk


def _fla(shape: Shape, device: torch.device) -> Function:
    module = importlib.import_module("fla.ops.simple_gla")

    def fla(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        """SSD as gated linear attention: q = C, k = B, v = Δx, log-decay ΔA."""
        q, k = (y.expand(-1, -1, shape.heads, -1).bfloat16() for y in (c, b))
        v = (x * dt[..., None]).bfloat16()
        return module.chunk_simple_gla(q, k, v, g=dt * a, scale=1.0, output_final_state=True)

    return fla


_has_transformers = functools.partial(packages.has_transformers, "mamba2", "mamba2_chunk_scan")


def _mamba_ssm(shape: Shape, device: torch.device) -> Function:
    module = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")

    def mamba_ssm(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return module.mamba_chunk_scan_combined(x, dt, a, b, c, chunk_size=256, return_final_states=True)

    return mamba_ssm


SSD = Layer(
    name="ssd",
    title="SSD (Mamba-2)",
    flops=lambda shape: 5 * shape.batch * shape.tokens * shape.heads * shape.head_size**2,
    inputs=_inputs,
    reference=_reference,
    gates=("dt", "A"),
    parameters=("A",),
    contenders=(
        Contender("ours", _ours),
        Contender("transformers", functools.partial(_transformers, chunk_size=64), is_installed=_has_transformers),
        Contender(
            "transformers, chunks of 256",
            functools.partial(_transformers, chunk_size=256),
            is_installed=_has_transformers,
        ),
        Contender("vLLM", _vllm, has_backward=False, platforms=("cpu",), is_installed=packages.has_vllm_kernels),
        Contender(
            "matmul floor", _floor, has_backward=False, is_yardstick=True, platforms=("cpu",), flops=_floor_flops
        ),
        Contender(
            "fla Triton (bf16)",
            _fla,
            dtype="bfloat16",
            platforms=("cuda",),
            is_installed=functools.partial(packages.has_fla_triton, "simple_gla"),
        ),
        Contender(
            "mamba-ssm",
            _mamba_ssm,
            platforms=("cuda",),
            is_installed=functools.partial(packages.has_package, "mamba_ssm"),
        ),
    ),
)
