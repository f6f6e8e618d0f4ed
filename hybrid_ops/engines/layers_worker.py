"""The layers' worker: our reference layers and their peers in one process, agreed first, then timed round by round.

Speaks the protocol of `hybrid_ops.engines.protocol`; `layers.py` says what the suite knows of it. It needs torch
alone; peers that its interpreter lacks do not take part. Its "model" is a folder with the shape of the benchmark
(`layer_bench.shape`). See `layer_bench` for what is compared and how.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
import os
import time
from pathlib import Path
from typing import Any

from hybrid_ops.engines.layer_bench.agreement import Agreed, agree
from hybrid_ops.engines.layer_bench.cases import KERNELS
from hybrid_ops.engines.layer_bench.contender import PLATFORM_DTYPES
from hybrid_ops.engines.layer_bench.kernels import COPY, COPY_BYTES, MATMUL, MATMUL_SIZE, Kernel
from hybrid_ops.engines.layer_bench.packages import installed_versions
from hybrid_ops.engines.layer_bench.shape import Shape, read_shape
from hybrid_ops.engines.layer_bench.timing import time_round
from hybrid_ops.engines.protocol import DeviceFacts, KernelPass, KernelRound, LayerRound, LoadFacts, MaskFacts, serve

PEERS = ("transformers", "vllm", "flash-linear-attention", "flash-attn", "mamba-ssm", "causal-conv1d")
INJECT_VARIABLE = "HYBRID_OPS_INJECT"


class LayersWorker:
    """One benchmark shape on one device, and the cases that were agreed on so far."""

    def __init__(self) -> None:
        self.shape = Shape()
        self.device = "cpu"
        self.compiled = False
        self.agreed: dict[str, Agreed] = {}
        self.delays: dict[str, float] = {}
        self.kernel: tuple[object, Kernel] | None = None
        """The latest kernel, by what it was asked for with: one alone, so that the memory of others is free."""

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        """Take the shape from the folder `model`; return what this process is made of.

        `arguments`: `device` ("cpu" or "cuda"; "cpu"), `compile` (also time our form under torch.compile; false),
        `tokens` (instead of the shape's own), `dtype` (of the inputs; that of the device by default) and `slow`
        (contenders of kernels, each with a share of its own time by which its passes are made to last longer).
        """
        started = time.perf_counter()
        import torch

        if unknown := set(arguments) - {"device", "compile", "tokens", "dtype", "slow"}:
            names = "device, compile, tokens, dtype or slow"
            raise ValueError(f"arguments: {', '.join(sorted(unknown))}: expected {names}")
        torch.set_num_threads(1)
        shape = read_shape(Path(model))
        self.device = arguments.get("device", "cpu")
        dtype = arguments.get("dtype", PLATFORM_DTYPES[self.device])
        self.shape = dataclasses.replace(shape, tokens=arguments.get("tokens", shape.tokens), dtype=dtype)
        self.compiled = arguments.get("compile", False)
        self.agreed, self.kernel = {}, None
        self.delays = _delays(arguments.get("slow", {}))
        return LoadFacts(
            load_seconds=time.perf_counter() - started,
            model_bytes=None,
            cache=None,
            device=self._device_facts(),
            reference_kernels=[],
            versions={"torch": torch.__version__, **installed_versions(PEERS)},
            server=None,
        )

    def time_layer(self, layer: str, direction: str, seed: int) -> LayerRound:
        """Time one round of a case: everyone who agrees, and every yardstick, once, in an order drawn from `seed`.

        The first call for a case holds the contenders against float64, and keeps what it finds. That is also the only
        warm-up: a caller who wants more throws rounds away.

        Raises ValueError for a case that is not known, and DisagreementError if "ours" is among the refused.
        """
        case = f"{layer}/{direction}"
        if case not in self.agreed:
            self.agreed[case] = agree(case, self.shape, self.device, compiled=self.compiled)
        agreed = self.agreed[case]
        return _layer_round(agreed, time_round(agreed.calls, seed, self.device))

    def time_kernel(self, kernel: str, shape: dict[str, Any], contenders: list[str] | None, seed: int) -> KernelRound:
        """Time one round of a kernel: each pass of everyone who agrees once, in an order drawn from `seed`.

        `shape` has the fields in which it differs from the benchmark's. The first call for a kernel holds the
        contenders (all, where none are named) against float64, takes their peaks of memory, and warms up.

        Raises ValueError for what is not known, and DisagreementError if "ours" is among the refused.
        """
        asked = (kernel, shape, contenders)
        if self.kernel is None or self.kernel[0] != asked:
            self.kernel = None
            sizes = dataclasses.replace(self.shape, **shape)
            self.kernel = asked, Kernel(kernel, sizes, self.device, contenders, self.delays)
        timed = self.kernel[1]
        seconds = timed.round(seed)
        blocks = timed.blocks
        mask = None if blocks is None else MaskFacts(blocks.block_density, blocks.exact_density, blocks.picture)
        return KernelRound(
            passes={direction: _kernel_pass(timed, direction, mask, seconds[direction]) for direction in timed.passes},
            mask=mask,
            matmul_flops=2.0 * MATMUL_SIZE[self.device] ** 3,
            copied_bytes=COPY_BYTES[self.device],
        )

    def _device_facts(self) -> DeviceFacts:
        import torch

        if self.device == "cuda":
            properties = torch.cuda.get_device_properties(0)
            return DeviceFacts("cuda", properties.name, str(properties.uuid), properties.total_memory, threads=None)
        return DeviceFacts(self.device, None, None, None, threads=torch.get_num_threads())


def _kernel_pass(timed: Kernel, direction: str, mask: MaskFacts | None, seconds: dict[str, float]) -> KernelPass:
    return KernelPass(
        matmul_seconds=seconds.pop(MATMUL),
        copy_seconds=seconds.pop(COPY),
        contenders=_layer_round(timed.passes[direction], seconds),
        peak_bytes=timed.peaks[direction],
        flops=timed.flops(direction, 1.0 if mask is None else mask.block_density),
        exact_flops=timed.flops(direction, 1.0 if mask is None else mask.exact_density),
        moved_bytes=timed.moved_bytes.get(direction),
    )


def _layer_round(agreed: Agreed, seconds: dict[str, float]) -> LayerRound:
    # JSON has no word for infinity. Who is so far off is refused, and the reason says it.
    checks = {name: check for name, check in agreed.checks.items() if math.isfinite(check.error)}
    return LayerRound(
        seconds=seconds,
        errors={name: check.error for name, check in checks.items()},
        bounds={name: check.bound for name, check in checks.items()},
        refused=agreed.refused,
    )


def _delays(asked: dict[str, float]) -> dict[str, float]:
    """By contender of any kernel: the share that `asked` has for it, or else the one that the environment injects."""
    known = {contender.name for layer in KERNELS.values() for contender in layer.contenders}
    if unknown := sorted(set(asked) - known):
        raise ValueError(f"slow: {', '.join(unknown)}: the contenders are {', '.join(sorted(known))}")
    return {**dict.fromkeys(known, float(os.environ.get(INJECT_VARIABLE, "0"))), **asked}


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="passive")  # before torch is imported
    # Now, so that the two arms of a comparison import at the same time. A failure is told by `load`, which tries again.
    with contextlib.suppress(Exception):
        importlib.import_module("torch")
    worker = LayersWorker()
    serve({"load": worker.load, "time_layer": worker.time_layer, "time_kernel": worker.time_kernel})


if __name__ == "__main__":
    main()
