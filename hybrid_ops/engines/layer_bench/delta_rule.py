"""Gated DeltaNet: q, k, v [B, T, H, K], β and log-decay [B, T, H]; output [B, T, H, K]."""

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

    heads = (shape.batch, shape.tokens, shape.heads)
    query, key, value = (torch.randn(*heads, shape.head_size, device=device) for _ in range(3))
    beta, decay = torch.rand(2, *heads, device=device)
    return {"query": query, "key": key, "value": value, "beta": beta, "log_decay": -decay}


def _reference(shape: Shape) -> Function:
    from hybrid_ops.layers.delta_rule import recurrent_delta_rule

    def recurrent(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
        return recurrent_delta_rule(q, k, v, beta=beta, log_decay=g)

    return recurrent


def _ours(shape: Shape, device: torch.device) -> Function:
    from hybrid_ops.layers.delta_rule import chunked_delta_rule

    def ours(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
        return chunked_delta_rule(q, k, v, beta=beta, log_decay=g)

    return ours


def _transformers(shape: Shape, device: torch.device) -> Function:
    theirs = packages.transformers_function("olmo_hybrid", "torch_chunk_gated_delta_rule")

    def transformers(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
        return theirs(q, k, v, g=g, beta=beta, use_qk_l2norm_in_kernel=True, output_final_state=True)

    return transformers


def _fla_naive(shape: Shape, device: torch.device) -> Function:
    from hybrid_ops.layers.norms import l2_normalise

    naive = packages.fla_naive_module("gated_delta_rule")

    def fla_naive(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
        normed = l2_normalise(q), l2_normalise(k)
        return naive.naive_chunk_gated_delta_rule(*normed, v, g=g, beta=beta, output_final_state=True)

    return fla_naive


def _vllm(shape: Shape, device: torch.device) -> Function:
    import torch

    kernels = packages.vllm_kernels()
    boundaries = torch.arange(shape.batch + 1, dtype=torch.int32) * shape.tokens
    rows = torch.arange(shape.batch, dtype=torch.int32)

    def vllm(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
        # The batch's sequences are packed. bfloat16 is all that the kernel takes; the conversion is counted.
        heads = [x.bfloat16().flatten(0, 1)[None] for x in (q, k, v)]
        gates = g.flatten(0, 1)[None], beta.bfloat16().flatten(0, 1)[None]
        state = torch.zeros(shape.batch, shape.heads, shape.head_size, shape.head_size)
        y, state = kernels.chunk_gated_delta_rule_cpu(*heads, *gates, state, True, boundaries, False, True, rows, 1e-6)
        return y.view(q.shape), state

    return vllm


def _floor(shape: Shape, device: torch.device) -> Function:
    chunks = shape.batch * shape.tokens * shape.heads // FLOOR_CHUNK

    def floor(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> None:
        """The eight matmuls of the paper's chunkwise form at C = 64, batched and contiguous, and nothing else."""
        a, b, c = (x.view(-1, shape.head_size)[: chunks * FLOOR_CHUNK].view(chunks, FLOOR_CHUNK, -1) for x in (q, k, v))
        square = a @ b.mT  # QKᵀ
        a @ c.mT  # KKᵀ
        for x in (a, b, c):  # T·K, T·V, A·U
            square @ x
        for x in (a, b, c):  # W·S, Q·S, KᵀU
            x.mT @ a

    return floor


def _floor_flops(shape: Shape) -> int:
    """Five products of C × C with C × K, three of K × C with C × K."""
    a_chunk = 2 * shape.head_size * FLOOR_CHUNK * (5 * FLOOR_CHUNK + 3 * shape.head_size)
    return shape.batch * shape.heads * shape.tokens // FLOOR_CHUNK * a_chunk


def _fla(shape: Shape, device: torch.device) -> Function:
    module = importlib.import_module("fla.ops.gated_delta_rule")

    def fla(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
        heads = [x.bfloat16() for x in (q, k, v)]
        return module.chunk_gated_delta_rule(
            *heads, g=g, beta=beta, output_final_state=True, use_qk_l2norm_in_kernel=True
        )

    return fla


DELTA_RULE = Layer(
    name="delta_rule",
    title="Gated DeltaNet",
    flops=lambda shape: 7 * shape.batch * shape.tokens * shape.heads * shape.head_size**2,
    inputs=_inputs,
    reference=_reference,
    gates=("beta", "log_decay"),
    contenders=(
        Contender("ours", _ours),
        Contender(
            "transformers",
            _transformers,
            is_installed=functools.partial(packages.has_transformers, "olmo_hybrid", "torch_chunk_gated_delta_rule"),
        ),
        Contender("fla naive", _fla_naive, is_installed=functools.partial(packages.has_fla_naive, "gated_delta_rule")),
        Contender(
            "vLLM (bf16)",
            _vllm,
            dtype="bfloat16",
            has_backward=False,
            platforms=("cpu",),
            is_installed=packages.has_vllm_kernels,
        ),
        Contender(
            "matmul floor", _floor, has_backward=False, is_yardstick=True, platforms=("cpu",), flops=_floor_flops
        ),
        Contender(
            "fla Triton (bf16)",
            _fla,
            dtype="bfloat16",
            platforms=("cuda",),
            is_installed=functools.partial(packages.has_fla_triton, "gated_delta_rule"),
        ),
    ),
)
