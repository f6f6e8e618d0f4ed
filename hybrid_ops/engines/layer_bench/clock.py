"""One call at a time, timed from cold caches: CUDA events on a GPU, a monotonic clock on a processor."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

CACHE_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}
UNKNOWN_CACHE_BYTES = 1 << 25
FLUSHES = 2
"""How many times the size of the cache is written, so that none of what contenders share is left in it."""
MOST_FLUSHED_BYTES = 1 << 27
"""A virtual machine may name a cache that it shares with many others."""
ResultT = TypeVar("ResultT")


def last_level_cache_bytes(folder: Path = CACHE_FOLDER) -> int:
    """The largest cache of the first processor, as Linux tells it; 32 MiB where it does not."""
    sizes = [UNKNOWN_CACHE_BYTES]
    with contextlib.suppress(OSError):
        texts = [path.read_text(encoding="utf-8").strip() for path in folder.glob("index*/size")]
        sizes = [int(found[1]) * UNITS[found[2]] for text in texts if (found := re.fullmatch(r"(\d+)([KM]?)", text))]
    return max(sizes, default=UNKNOWN_CACHE_BYTES)


class Clock:
    """Times calls on one device."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self.is_cuda = device.type == "cuda"
        cache = torch.cuda.get_device_properties(device).L2_cache_size if self.is_cuda else last_level_cache_bytes()
        size = min(FLUSHES * cache, MOST_FLUSHED_BYTES)
        self._other = torch.zeros(size, dtype=torch.uint8, device=device)

    def flush(self) -> None:
        """Fill the caches with something else: read and written, because a mere write may go past them."""
        self._other.add_(1)

    def time(self, call: Callable[[], ResultT], delay: float = 0.0) -> tuple[float, ResultT]:
        """Seconds of one call, and what it gives.

        Args:
            call: is run once, after a flush.
            delay: makes it last longer by this share of its own time.
        """
        self.flush()
        return self._on_gpu(call, delay) if self.is_cuda else _on_processor(call, delay)

    def _on_gpu(self, call: Callable[[], ResultT], delay: float) -> tuple[float, ResultT]:
        """Events, because a launch returns before the work is done. The delay is added, since nothing can be slowed.

        The flush is in the same stream, which gives the host time to send what is to be timed: a kernel that waits for
        Python would count as slow.
        """
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = call()
        end.record()
        end.synchronize()
        return (1 + delay) * start.elapsed_time(end) / 1e3, result


def _on_processor(call: Callable[[], ResultT], delay: float) -> tuple[float, ResultT]:
    start = time.perf_counter()
    result = call()
    end = time.perf_counter()
    resume = end + delay * (end - start)
    while end < resume:  # spinning, because a sleep would let the processor's clock drop
        end = time.perf_counter()
    return end - start, result
