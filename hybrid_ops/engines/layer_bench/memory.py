"""The most that a computation keeps alive: of our forms tensor by tensor, of anyone as the allocator sees it."""

from __future__ import annotations

import contextlib
import json
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench.cases import LAYERS
from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch

MEMORY_LENGTHS = (4096, 8192, 16384, 32768, 65536)


def peak_memory(layer: str, *, tokens: int) -> int:
    """The most bytes that tensors made by our chunked form took at one time, without gradients (exact, not sampled).

    Args:
        layer: "delta_rule", "ssd", "selective_scan" or "window".
        tokens: T.

    Returns:
        Bytes of all storages that were alive together, the inputs not counted, the outputs counted.
    """
    import torch

    shape, device = Shape(tokens=tokens), torch.device("cpu")
    inputs = LAYERS[layer].inputs(shape, device)
    ours = LAYERS[layer].contenders[0].make(shape, device)
    with torch.no_grad(), live_storages() as peak:
        ours(*inputs.values())
    return peak[0]


def peak_allocation(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that `work` has allocated at one time, scratch memory inside of kernels included.

    On a processor from the trace of torch's profiler, whose events of memory are all that its allocator gives and
    takes. What a kernel takes past torch's allocator is not seen.
    """
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        kept = work()
        torch.cuda.synchronize()
        del kept
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = work()  # alive until the profiler has ended, as whoever asked for it would have it
    del kept
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def live_storages() -> Any:
    """A context that follows which storages are alive; its value is a list whose one item is the peak in bytes."""
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
