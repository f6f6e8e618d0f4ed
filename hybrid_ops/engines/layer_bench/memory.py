"""The most that our forms keep alive at once."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

from hybrid_ops.engines.layer_bench.cases import LAYERS
from hybrid_ops.engines.layer_bench.shape import Shape

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
