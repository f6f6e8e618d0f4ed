"""What is compared: each layer's own form and its peers', on the same tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench.peers import fla_naive_module, import_or_none, plain, vllm_kernels

if TYPE_CHECKING:
    from torch import Tensor

BATCH, TOKENS, HEADS, SIZE, WINDOW = 1, 2048, 8, 64, 512
"""The shape of all cases: B1 T2048 H8, K = V = P = N = 64, window 512."""

SHORTER = {"selective_scan/backward": 256}
"""Cases of fewer tokens: the gradient of transformers' token loop takes time quadratic in T, minutes at 2048."""

CASES = (
    "delta_rule/forward",
    "delta_rule/backward",
    "ssd/forward",
    "ssd/backward",
    "selective_scan/forward",
    "selective_scan/backward",
    "window/forward",
    "window/backward",
)


def contenders(
    case: str, *, device: str = "cpu", compiled: bool = False, tokens: int | None = None
) -> dict[str, Callable[[], object]]:
    """The calls that a case compares, by name; "ours" is always among them.

    Args:
        case: one of `CASES`: a layer and "forward" or "backward" (which is forward and backward together).
        device: "cpu" or "cuda".
        compiled: also offer our form under `torch.compile`, as "ours, compiled".
        tokens: T; None means 2048, or less where `SHORTER` says so.

    Returns:
        Functions without arguments. Each does one whole call on inputs that all of them share.

    Raises:
        ValueError: the case is not known.
    """
    if case not in CASES:
        raise ValueError(f"case: {case!r} is not one of {', '.join(CASES)}")
    layer, direction = case.split("/")
    import torch

    torch.manual_seed(0)
    tokens = SHORTER.get(case, TOKENS) if tokens is None else tokens
    functions = LAYERS[layer](torch.device(device), tokens)
    if compiled:
        functions["ours, compiled"] = torch.compile(functions["ours"], dynamic=False)
    inputs = functions.pop("inputs")()
    if direction == "forward":
        return {name: functools.partial(_forward, function, inputs) for name, function in functions.items()}
    differentiable = [name for name in functions if name not in _WITHOUT_BACKWARD]
    return {name: functools.partial(_backward, functions[name], inputs) for name in differentiable}


def _delta_rule(device: Any, tokens: int) -> dict[str, Callable[..., Any]]:
    import torch

    from hybrid_ops.layers.delta_rule import chunked_delta_rule
    from hybrid_ops.layers.norms import l2_normalise

    def inputs() -> list[Tensor]:
        heads = [torch.randn(BATCH, tokens, HEADS, SIZE, device=device) for _ in range(3)]
        gates = torch.rand(2, BATCH, tokens, HEADS, device=device)
        return [*heads, gates[0], -gates[1]]

    def ours(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
        return chunked_delta_rule(q, k, v, beta=beta, log_decay=g)

    functions: dict[str, Callable[..., Any]] = {"inputs": inputs, "ours": ours}
    if module := import_or_none("transformers.models.olmo_hybrid.modeling_olmo_hybrid"):
        theirs = plain(module.torch_chunk_gated_delta_rule)

        def transformers(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
            return theirs(q, k, v, g=g, beta=beta, use_qk_l2norm_in_kernel=True, output_final_state=True)

        functions["transformers"] = transformers
    if naive := fla_naive_module("gated_delta_rule"):

        def fla_naive(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
            normed = l2_normalise(q), l2_normalise(k)
            return naive.naive_chunk_gated_delta_rule(*normed, v, g=g, beta=beta, output_final_state=True)

        functions["fla naive"] = fla_naive
    if device.type == "cpu":
        if kernels := vllm_kernels():
            boundaries = torch.tensor([0, tokens], dtype=torch.int32)
            row = torch.zeros(1, dtype=torch.int32)

            def vllm(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
                heads = [x.bfloat16() for x in (q, k, v)]  # all that the kernel takes; the conversion is counted
                state = torch.zeros(1, HEADS, SIZE, SIZE)
                return kernels.chunk_gated_delta_rule_cpu(
                    *heads, g, beta.bfloat16(), state, True, boundaries, False, True, row, 1e-6
                )

            functions["vLLM (bf16)"] = vllm

        def floor(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> None:
            """The eight matmuls of the paper's chunkwise form at C = 64, batched and contiguous, and nothing else."""
            a, b, c = (x.reshape(-1, 64, SIZE) for x in (q, k, v))
            square = a @ b.mT  # QKᵀ
            a @ c.mT  # KKᵀ
            for x in (a, b, c):  # T·K, T·V, A·U
                square @ x
            for x in (a, b, c):  # W·S, Q·S, KᵀU
                x.mT @ a

        functions["matmul floor"] = floor
    elif module := import_or_none("fla.ops.gated_delta_rule"):

        def fla(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
            heads = [x.bfloat16() for x in (q, k, v)]
            return module.chunk_gated_delta_rule(
                *heads, g=g, beta=beta, output_final_state=True, use_qk_l2norm_in_kernel=True
            )

        functions["fla Triton (bf16)"] = fla
    return functions


def _ssd(device: Any, tokens: int) -> dict[str, Callable[..., Any]]:
    import torch

    from hybrid_ops.layers.ssd import chunked_ssd

    def inputs() -> list[Tensor]:
        x = torch.randn(BATCH, tokens, HEADS, SIZE, device=device)
        b, c = torch.randn(2, BATCH, tokens, 1, SIZE, device=device)
        return [x, b, c, torch.rand(BATCH, tokens, HEADS, device=device), -torch.rand(HEADS, device=device)]

    def ours(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return chunked_ssd(x, b, c, dt=dt, A=a)

    functions: dict[str, Callable[..., Any]] = {"inputs": inputs, "ours": ours}
    if module := import_or_none("transformers.models.mamba2.modeling_mamba2"):
        scan = plain(module.mamba2_chunk_scan)

        def transformers(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, chunk_size: int = 64) -> Any:
            return scan(x, dt, a, b, c, chunk_size=chunk_size, return_final_states=True)

        functions["transformers"] = transformers
        functions["transformers, chunks of 256"] = functools.partial(transformers, chunk_size=256)
    if device.type == "cpu" and (kernels := vllm_kernels()):
        boundaries = torch.tensor([0, tokens], dtype=torch.int32)

        def vllm(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
            y, state = torch.empty_like(x[0]), torch.zeros(1, HEADS, SIZE, SIZE)
            kernels.mamba_chunk_scan_fwd_cpu(y, state, x[0], dt[0], a, b[0], c[0], None, None, boundaries)
            return y, state

        functions["vLLM"] = vllm
    elif device.type == "cuda" and (module := import_or_none("fla.ops.simple_gla")):

        def fla(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
            """SSD as gated linear attention: q = C, k = B, v = Δx, log-decay ΔA."""
            q, k = (y.expand(-1, -1, HEADS, -1).bfloat16() for y in (c, b))
            v = (x * dt[..., None]).bfloat16()
            return module.chunk_simple_gla(q, k, v, g=dt * a, scale=1.0, output_final_state=True)

        functions["fla Triton (bf16)"] = fla
    return functions


def _selective_scan(device: Any, tokens: int) -> dict[str, Callable[..., Any]]:
    import torch

    from hybrid_ops.layers.selective_scan import chunked_selective_scan, recurrent_selective_scan

    channels, states = HEADS * SIZE, 16  # the width of the other cases, and Mamba's usual state

    def inputs() -> list[Tensor]:
        u, dt = torch.randn(BATCH, tokens, channels, device=device), torch.rand(BATCH, tokens, channels, device=device)
        b, c = torch.randn(2, BATCH, tokens, states, device=device)
        return [u, b, c, dt, -torch.rand(channels, states, device=device)]

    def ours(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return chunked_selective_scan(u, b, c, dt=dt, A=a)

    def recurrent(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
        return recurrent_selective_scan(u, b, c, dt=dt, A=a)

    functions: dict[str, Callable[..., Any]] = {"inputs": inputs, "ours": ours, "ours, recurrent": recurrent}
    if module := import_or_none("transformers.models.mamba.modeling_mamba"):
        scan = plain(module.mamba_selective_scan)

        def transformers(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
            return scan(*(x.mT for x in (u, dt)), a, b.mT, c.mT, return_last_state=True)

        functions["transformers"] = transformers
    return functions


def _window(device: Any, tokens: int) -> dict[str, Callable[..., Any]]:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from hybrid_ops.layers.attention import sliding_window_attention
    from hybrid_ops.layers.masks import sliding_window

    def inputs() -> list[Tensor]:
        return [torch.randn(BATCH, tokens, HEADS, SIZE, device=device) for _ in range(3)]

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sliding_window_attention(q, k, v, window=WINDOW)

    def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        distance = torch.arange(tokens, device=device)[:, None] - torch.arange(tokens, device=device)
        mask = (distance >= 0) & (distance < WINDOW)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    functions: dict[str, Callable[..., Any]] = {
        "inputs": inputs,
        "ours": ours,
        "SDPA, dense mask": dense,
        "SDPA, full causal": causal,
    }
    if device.type == "cuda":
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        mask = create_block_mask(sliding_window(WINDOW), None, None, tokens, tokens, device=device)
        kernel: Callable[..., Any] = torch.compile(flex_attention, dynamic=False)

        def flex(q: Tensor, k: Tensor, v: Tensor) -> Any:
            return kernel(*(x.transpose(1, 2) for x in (q, k, v)), block_mask=mask).transpose(1, 2)

        functions["FlexAttention"] = flex
    return functions


LAYERS: dict[str, Callable[[Any, int], dict[str, Callable[..., Any]]]] = {
    "delta_rule": _delta_rule,
    "ssd": _ssd,
    "selective_scan": _selective_scan,
    "window": _window,
}
"""Each gives its input maker ("inputs"), our form ("ours") and its peers, all taking the same tensors."""

_WITHOUT_BACKWARD = ("vLLM", "vLLM (bf16)", "matmul floor")
"""Kernels without a gradient, and what is only meant as a floor of the forward pass."""


def _forward(function: Callable[..., Any], inputs: list[Tensor]) -> None:
    import torch

    with torch.no_grad():
        function(*inputs)


def _backward(function: Callable[..., Any], inputs: list[Tensor]) -> None:
    import torch

    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = function(*leaves)
    first = output[0] if isinstance(output, tuple) else output
    torch.autograd.backward(first.float().sum())
