"""The layers' benchmark: our chunked forms against their peers, in one process, as ratios.

Run it by path, in a process of its own, under the interpreter whose torch is to be measured:

    python hybrid_ops/engines/layer_bench.py                      # the table, and with --json PATH every sample
    python hybrid_ops/engines/layer_bench.py --cases delta_rule/forward ssd/forward --repeats 30 --compile

How it measures. One thread, `OMP_WAIT_POLICY=passive` (spinning OpenMP threads on busy cores make small triangular
solves up to 100 times slower), contenders interleaved in an order that is drawn anew each round, so that a slow moment
of the machine hits all alike. Times are seconds of wall clock; minimum and median are reported. Only ratios of one run
mean something on another machine.

As a library (the pytest plugin calls it in a process of its own):

    samples = measure(contenders("ssd/forward"), repeats=20)      # {"ours": [seconds, ...], "transformers": [...], ...}
    summary = summarise(samples)                                  # {"ours": {"min": ..., "median": ..., "ratio": ...}}
    growth = peak_memory("ssd", tokens=65536)                     # bytes that live tensors took at their peak

`contenders` leaves out peers that are not installed or do not run on the device. On a GPU the same cases compare with
flash-linear-attention's Triton kernels and FlexAttention.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # Run by path: this folder would be searched first, and its file names hide packages. The environment must be set
    # before torch is imported.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="passive")

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

GOALS: dict[tuple[str, str], float] = {
    ("delta_rule/forward", "transformers"): 1.6,
    ("delta_rule/forward", "matmul floor"): 1 / 2.2,
    ("ssd/forward", "transformers"): 2.0,
    ("ssd/forward", "vLLM"): 1 / 2.5,
    ("window/forward", "SDPA, dense mask"): 2.0,
}
"""The least ratio (their time over ours) that is aimed for on a CPU in float32, by case and peer."""

MEMORY_LENGTHS = (4096, 8192, 16384, 32768, 65536)


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
    functions = _LAYERS[layer](torch.device(device), tokens)
    if compiled:
        functions["ours, compiled"] = torch.compile(functions["ours"], dynamic=False)
    inputs = functions.pop("inputs")()
    if direction == "forward":
        return {name: functools.partial(_forward, function, inputs) for name, function in functions.items()}
    differentiable = [name for name in functions if name not in _WITHOUT_BACKWARD]
    return {name: functools.partial(_backward, functions[name], inputs) for name in differentiable}


def measure(
    calls: Mapping[str, Callable[[], object]], *, repeats: int = 20, warmups: int = 2, seed: int = 0
) -> dict[str, list[float]]:
    """Time contenders against each other, interleaved, each round in a new random order.

    Args:
        calls: from `contenders`.
        repeats: rounds that count.
        warmups: rounds before them that do not.
        seed: of the orders.

    Returns:
        For each name its seconds, one a round.
    """
    import torch

    synchronise = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(seed).shuffle  # noqa: S311  (an order of measurement, not a secret)
    for round_number in range(warmups + repeats):
        shuffle(order)
        for name in order:
            synchronise()
            start = time.perf_counter()
            calls[name]()
            synchronise()
            if round_number >= warmups:
                samples[name].append(time.perf_counter() - start)
    return samples


def summarise(samples: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Minimum and median in seconds, and each contender's median over that of "ours" (above 1: ours is faster).

    The ratio is the median over rounds of the ratio within a round, which a machine that speeds up or slows down during
    the run does not move.
    """
    ours = samples["ours"]
    return {
        name: {
            "min": min(seconds),
            "median": statistics.median(seconds),
            "ratio": statistics.median(theirs / own for theirs, own in zip(seconds, ours, strict=True)),
        }
        for name, seconds in samples.items()
    }


def peak_memory(layer: str, *, tokens: int) -> int:
    """The most bytes that tensors made by our chunked form took at one time, without gradients (exact, not sampled).

    Args:
        layer: "delta_rule", "ssd", "selective_scan" or "window".
        tokens: T.

    Returns:
        Bytes of all storages that were alive together, the inputs not counted, the outputs counted.
    """
    import torch

    functions = _LAYERS[layer](torch.device("cpu"), tokens)
    inputs = functions["inputs"]()
    with torch.no_grad(), _live_storages() as peak:
        functions["ours"](*inputs)
    return peak[0]


# The layers: each gives its input maker ("inputs"), our form ("ours") and its peers, all taking the same tensors.


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
    if module := _import("transformers.models.olmo_hybrid.modeling_olmo_hybrid"):
        theirs = _plain(module.torch_chunk_gated_delta_rule)

        def transformers(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
            return theirs(q, k, v, g=g, beta=beta, use_qk_l2norm_in_kernel=True, output_final_state=True)

        functions["transformers"] = transformers
    if naive := _fla_naive("gated_delta_rule"):

        def fla_naive(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Any:
            normed = l2_normalise(q), l2_normalise(k)
            return naive.naive_chunk_gated_delta_rule(*normed, v, g=g, beta=beta, output_final_state=True)

        functions["fla naive"] = fla_naive
    if device.type == "cpu":
        if kernels := _vllm_kernels():
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
    elif module := _import("fla.ops.gated_delta_rule"):

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
    if module := _import("transformers.models.mamba2.modeling_mamba2"):
        scan = _plain(module.mamba2_chunk_scan)

        def transformers(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, chunk_size: int = 64) -> Any:
            return scan(x, dt, a, b, c, chunk_size=chunk_size, return_final_states=True)

        functions["transformers"] = transformers
        functions["transformers, chunks of 256"] = functools.partial(transformers, chunk_size=256)
    if device.type == "cpu" and (kernels := _vllm_kernels()):
        boundaries = torch.tensor([0, tokens], dtype=torch.int32)

        def vllm(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor) -> Any:
            y, state = torch.empty_like(x[0]), torch.zeros(1, HEADS, SIZE, SIZE)
            kernels.mamba_chunk_scan_fwd_cpu(y, state, x[0], dt[0], a, b[0], c[0], None, None, boundaries)
            return y, state

        functions["vLLM"] = vllm
    elif device.type == "cuda" and (module := _import("fla.ops.simple_gla")):

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
    if module := _import("transformers.models.mamba.modeling_mamba"):
        scan = _plain(module.mamba_selective_scan)

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


_LAYERS: dict[str, Callable[[Any, int], dict[str, Callable[..., Any]]]] = {
    "delta_rule": _delta_rule,
    "ssd": _ssd,
    "selective_scan": _selective_scan,
    "window": _window,
}

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


def _import(name: str) -> Any:
    """A module, or None where it, or something that it needs, is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The PyTorch function itself: the decorated one hands over to a kernel package where one is installed."""
    return getattr(function, "__wrapped__", function)


@functools.cache
def _fla_naive(name: str) -> Any:
    """flash-linear-attention's naive forms, by file path: importing the package needs Triton."""
    found = importlib.util.find_spec("fla")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "ops" / name / "naive.py"
    specification = importlib.util.spec_from_file_location(f"fla_naive_{name}", path)
    if specification is None or specification.loader is None:
        return None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@functools.cache
def _vllm_kernels() -> Any:
    """vLLM's CPU kernels, from the library that its platform code would choose, without importing vLLM; or None."""
    import torch

    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return None
    root = Path(found.submodule_search_locations[0])
    if not torch.cpu._is_avx512_supported():
        library = root / "_C_AVX2.abi3.so"
    else:
        library = root / ("_C.abi3.so" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512.abi3.so")
    if not library.exists():
        return None
    torch.ops.load_library(str(library))
    kernels = torch.ops._C
    return kernels if hasattr(kernels, "mamba_chunk_scan_fwd_cpu") else None


def _live_storages() -> Any:
    """A context that follows which storages are alive; its value is a list whose one item is the peak in bytes."""
    import contextlib
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    peak, alive, seen = [0], [0], weakref.WeakSet[Any]()

    def gone(size: int) -> None:
        alive[0] -= size

    class Follow(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
            result = func(*args, **(kwargs or {}))
            for x in tree_leaves(result):
                if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in before:
                    storage = x.untyped_storage()  # a new one: its Python object lives as long as the memory
                    if storage not in seen:
                        seen.add(storage)
                        alive[0] += storage.nbytes()
                        weakref.finalize(storage, gone, storage.nbytes())
            peak[0] = max(peak[0], alive[0])
            return result

    @contextlib.contextmanager
    def follow() -> Any:
        with Follow():
            yield peak

    return follow()


TABLE_HEADER = f"{'case':<24} {'contender':<28} {'min ms':>9} {'median ms':>10} {'theirs/ours':>12}  goal"


def table(case: str, summary: Mapping[str, Mapping[str, float]]) -> str:
    """The summary of a case as text: a row a contender, the fastest first, with the goal where there is one."""
    lines = []
    for name, row in sorted(summary.items(), key=lambda item: item[1]["median"]):
        goal = GOALS.get((case, name))
        verdict = "" if goal is None else f"{goal:.2f} {'met' if row['ratio'] >= goal else 'missed'}"
        times = f"{row['min'] * 1e3:>9.2f} {row['median'] * 1e3:>10.2f} {row['ratio']:>12.2f}"
        lines.append(f"{case:<24} {name:<28} {times}  {verdict}".rstrip())
    return "\n".join(lines)


def memory_table(results: Mapping[str, Mapping[int, int]]) -> str:
    """Peak bytes a token by layer and length: constant where memory is linear in T."""
    lines = [f"{'layer':<24} " + " ".join(f"{'T = ' + str(tokens):>12}" for tokens in MEMORY_LENGTHS)]
    lines += [
        f"{layer:<24} " + " ".join(f"{peak / tokens:>10.0f} B" for tokens, peak in peaks.items())
        for layer, peaks in results.items()
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables, and write all samples with `--json PATH`."""
    parser = argparse.ArgumentParser(description="Compare the reference layers with their peers.")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=20, help="rounds that count")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="also measure our forms under torch.compile")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory up to 65,536 tokens")
    parser.add_argument("--json", type=Path, help="write the samples (seconds) and peaks (bytes) here")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    print(TABLE_HEADER)
    samples: dict[str, dict[str, list[float]]] = {}
    for case in options.cases:
        calls = contenders(case, device=options.device, compiled=options.compile)
        samples[case] = measure(calls, repeats=options.repeats)
        print(table(case, summarise(samples[case])), flush=True)
    peaks: dict[str, dict[int, int]] = {}
    if not options.no_memory:
        peaks = {layer: {tokens: peak_memory(layer, tokens=tokens) for tokens in MEMORY_LENGTHS} for layer in _LAYERS}
        print("\nPeak memory a token, forward\n" + memory_table(peaks))
    if options.json:
        record = {"torch": torch.__version__, "device": options.device, "samples_s": samples, "peak_bytes": peaks}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
