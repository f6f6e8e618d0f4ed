"""What Triton's autotuner has chosen in this process.

It times a kernel's tiles when a shape is first met and keeps the fastest, so two processes may choose in different ways
and round in different ways: equal outputs can be expected only of equal choices.
"""

from __future__ import annotations

import sys
from typing import Any

MOST_WRAPPERS = 8
"""A kernel is wrapped by few decorators; a chain beyond this is no chain of them."""


def choices() -> dict[str, str]:
    """The chosen tiles by kernel and shape: `_chunk_scan_fwd_kernel (64, 128)`: `BLOCK_SIZE_M: 64, num_warps: 4`."""
    found = {}
    for kernel in _autotuned():
        name = getattr(kernel.base_fn, "__name__", "a kernel")
        for shape, config in kernel.cache.items():
            found[f"{name} {shape}"] = str(config)
    return dict(sorted(found.items()))


def _autotuned() -> list[Any]:
    """Every autotuned kernel: they are global names of modules, below further decorators."""
    autotuner = sys.modules.get("triton.runtime.autotuner")
    if autotuner is None:
        return []
    found: dict[int, Any] = {}
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()) if hasattr(module, "__dict__") else []:
            for _ in range(MOST_WRAPPERS):
                kind = type(value)  # not `isinstance`: some modules hold objects that answer to everything
                if issubclass(kind, autotuner.Autotuner):
                    found[id(value)] = value
                    break
                if not str(kind.__module__).startswith("triton."):
                    break
                value = getattr(value, "fn", None)
    return list(found.values())
