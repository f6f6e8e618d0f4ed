"""The layers' worker: our reference layers and their peers in one process, agreed first, then timed round by round.

Speaks the protocol of `hybrid_ops.engines.protocol`; `layers.py` says what the suite knows of it. It needs torch
alone; peers that its interpreter lacks do not take part. Its "model" is a folder with the shape of the benchmark
(`layer_bench.shape`). See `layer_bench` for what is compared and how.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import math
import os
import time
from pathlib import Path
from typing import Any

from hybrid_ops.engines.layer_bench.agreement import Agreed, agree
from hybrid_ops.engines.layer_bench.shape import Shape, read_shape
from hybrid_ops.engines.layer_bench.timing import time_round
from hybrid_ops.engines.protocol import DeviceFacts, LayerRound, LoadFacts, serve

PEERS = ("transformers", "vllm", "flash-linear-attention")


class LayersWorker:
    """One benchmark shape on one device, and the cases that were agreed on so far."""

    def __init__(self) -> None:
        self.shape = Shape()
        self.device = "cpu"
        self.compiled = False
        self.dtype: str | None = None
        self.agreed: dict[str, Agreed] = {}

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        """Take the shape from the folder `model`; return what this process is made of.

        `arguments`: `device` ("cpu" or "cuda"; "cpu"), `compile` (also time our form under torch.compile; false),
        `tokens` (instead of the shape's own) and `dtype` (of the inputs; that of the device by default).
        """
        started = time.perf_counter()
        import torch

        if unknown := set(arguments) - {"device", "compile", "tokens", "dtype"}:
            raise ValueError(f"arguments: {', '.join(sorted(unknown))}: expected device, compile, tokens or dtype")
        torch.set_num_threads(1)
        shape = read_shape(Path(model))
        self.shape = shape.with_tokens(arguments.get("tokens", shape.tokens))
        self.device = arguments.get("device", "cpu")
        self.compiled = arguments.get("compile", False)
        self.dtype = arguments.get("dtype")
        self.agreed = {}
        return LoadFacts(
            load_seconds=time.perf_counter() - started,
            model_bytes=None,
            cache=None,
            device=self._device_facts(),
            reference_kernels=[],
            versions={"torch": torch.__version__, **_versions(PEERS)},
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
            self.agreed[case] = agree(case, self.shape, self.device, compiled=self.compiled, dtype=self.dtype)
        agreed = self.agreed[case]
        # JSON has no word for infinity. Who is so far off is refused, and the reason says it.
        checks = {name: check for name, check in agreed.checks.items() if math.isfinite(check.error)}
        return LayerRound(
            seconds=time_round(agreed.calls, seed, self.device),
            errors={name: check.error for name, check in checks.items()},
            bounds={name: check.bound for name, check in checks.items()},
            refused=agreed.refused,
        )

    def _device_facts(self) -> DeviceFacts:
        import torch

        if self.device == "cuda":
            properties = torch.cuda.get_device_properties(0)
            return DeviceFacts("cuda", properties.name, str(properties.uuid), properties.total_memory, threads=None)
        return DeviceFacts(self.device, None, None, None, threads=torch.get_num_threads())


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main() -> None:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="passive")  # before torch is imported
    # Now, so that the two arms of a comparison import at the same time. A failure is told by `load`, which tries again.
    with contextlib.suppress(Exception):
        importlib.import_module("torch")
    worker = LayersWorker()
    serve({"load": worker.load, "time_layer": worker.time_layer})


if __name__ == "__main__":
    main()
