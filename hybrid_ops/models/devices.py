"""What a device could do at best: peak FLOP/s and memory bandwidth, from a table or measured on the spot."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from hybrid_ops.errors import InputError
from hybrid_ops.yaml_files import StrictModel, load_schema

if TYPE_CHECKING:  # it takes two seconds to import, which only a measurement needs
    import torch

DEVICES_FILE = Path(__file__).parent / "devices.yaml"
DEVICES_SCHEMA_VERSION = 1
PRODUCTS_AT_LEAST = 4
"""How many products of two matrices are to fit into the time for which a processor is measured."""


@dataclass(frozen=True)
class MigSlice:
    """The part of a card that a MIG instance is."""

    profile: str
    """NVIDIA's name of its size, such as `1g.10gb`."""
    multiprocessors: int
    memory_share: float
    """Of its card's memory, in whole eighths. Its memory has that share of the bandwidth, too."""


@dataclass(frozen=True)
class DevicePeaks:
    """Peak rates of one device."""

    name: str
    flops: dict[str, float]
    """FLOP/s by data type, dense."""
    bandwidth: float
    """Bytes/s of its memory."""
    memory: float | None
    """Bytes of its memory; None where it is not the device's own (a CPU)."""
    source: str
    """Where the rates are from."""

    def peak_flops(self, dtype: str) -> float:
        """FLOP/s in `dtype`. Raises InputError when the table has none."""
        if dtype not in self.flops:
            raise InputError(f"{self.name}: flops.{dtype}: no peak for this data type; known: {', '.join(self.flops)}")
        return self.flops[dtype]


class DeviceEntry(StrictModel):
    """One device in `devices.yaml`."""

    name: str
    flops: dict[str, float]
    bandwidth: float = Field(gt=0)
    memory: float = Field(gt=0)
    multiprocessors: int | None = Field(default=None, gt=0)
    """Of the whole card, where it can be cut into MIG instances."""
    source: str = Field(min_length=1)


class DevicesFile(StrictModel):
    schema_version: int
    devices: dict[str, DeviceEntry]


@functools.cache
def device_table() -> dict[str, DeviceEntry]:
    """Every device of the table by its short name."""
    return load_schema(DEVICES_FILE, DevicesFile, DEVICES_SCHEMA_VERSION).devices


def find_device(name: str) -> DevicePeaks:
    """The peaks of a device by its short name (`h100-sxm`) or by what its driver calls it (`NVIDIA H100 80GB HBM3`).

    Raises InputError that lists the known devices.
    """
    for short, entry in device_table().items():
        if short == name.lower() or re.fullmatch(entry.name, name):
            return DevicePeaks(short, dict(entry.flops), entry.bandwidth, entry.memory, entry.source)
    raise InputError(f"device {name!r}: no peaks are known; known devices: cpu, {', '.join(device_table())}")


def slice_peaks(name: str, part: MigSlice) -> DevicePeaks:
    """The peaks of a MIG instance of the device `name`, in proportion to its multiprocessors and its memory.

    Source of the proportions: NVIDIA's MIG user guide, "Supported MIG Profiles". Raises InputError where the device, or
    its number of multiprocessors, is not in the table.
    """
    whole = find_device(name)
    of_card = device_table()[whole.name].multiprocessors
    if of_card is None or whole.memory is None:
        raise InputError(f"{DEVICES_FILE}: devices.{whole.name}.multiprocessors: not known, so MIG has no peaks")
    return DevicePeaks(
        f"{whole.name} MIG {part.profile}",
        {dtype: rate * part.multiprocessors / of_card for dtype, rate in whole.flops.items()},
        whole.bandwidth * part.memory_share,
        whole.memory * part.memory_share,
        f"{whole.source}; {part.multiprocessors} of {of_card} multiprocessors, {part.memory_share:.3g} of the memory",
    )


def measure_cpu(dtype: str = "bfloat16", threads: int | None = None, seconds: float = 0.5) -> DevicePeaks:
    """The peaks of this machine's CPU as torch reaches them: the best of repeated products and copies.

    The product is of two square matrices of 1024, the copy of 256 MiB (beyond any cache), each repeated for about
    `seconds`. `threads` defaults to torch's own number. These are rates reached, not a maker's: a utilisation against
    them can exceed 1. A processor without instructions for a short `dtype` can take seconds for one product of that
    size: then the matrices are smaller. Engines compute in float32 there, so its rate counts where it is the greater.
    """
    import torch

    kept = torch.get_num_threads()
    torch.set_num_threads(threads or kept)
    try:
        kind = getattr(torch, dtype)
        kinds = {kind, torch.float32} if kind.itemsize < torch.float32.itemsize else {kind}
        flops = max(_best_flops(each, seconds) for each in kinds)
        origin = torch.ones(1 << 28, dtype=torch.uint8)
        copy = torch.zeros_like(origin)
        bandwidth = 2 * origin.numel() / _best_time(lambda: copy.copy_(origin), seconds)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(kept)
    return DevicePeaks("cpu", {dtype: flops}, bandwidth, None, f"measured here, {used} threads")


def _best_flops(kind: torch.dtype, seconds: float) -> float:
    """FLOP/s of products of square matrices: of 1024, or of the largest size of which several fit into `seconds`."""
    import torch

    def product(size: int) -> Callable[[], object]:
        left, right = torch.ones(size, size, dtype=kind), torch.ones(size, size, dtype=kind)
        return functools.partial(torch.mm, left, right, out=torch.empty(size, size, dtype=kind))

    size = 256
    # Twice the size is eight times the work.
    while size < 1024 and PRODUCTS_AT_LEAST * 8 * _best_time(product(size), 0.0) < seconds:
        size *= 2
    return 2 * size**3 / _best_time(product(size), seconds)


def _best_time(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest run of `work` within about `seconds`, after one run to warm up."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best
