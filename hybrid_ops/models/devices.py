"""What a device could do at best: peak FLOP/s and memory bandwidth, from a table or measured on the spot."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from hybrid_ops.errors import InputError
from hybrid_ops.yaml_files import StrictModel, load_schema

DEVICES_FILE = Path(__file__).parent / "devices.yaml"
DEVICES_SCHEMA_VERSION = 1


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


def known_memory(name: str) -> int | None:
    """Bytes of a device's own memory by the table, which all of its class have; None where it is not there."""
    try:
        memory = find_device(name).memory
    except InputError:
        return None
    return None if memory is None else int(memory)


def measure_cpu(dtype: str = "bfloat16", threads: int | None = None, seconds: float = 0.5) -> DevicePeaks:
    """The peaks of this machine's CPU as torch reaches them: the best of repeated products and copies.

    The product is of two square matrices of 1024, the copy of 256 MiB (beyond any cache), each repeated for about
    `seconds`. `threads` defaults to torch's own number. These are rates reached, not a maker's: a utilisation against
    them can exceed 1.
    """
    import torch

    kept = torch.get_num_threads()
    torch.set_num_threads(threads or kept)
    try:
        kind = getattr(torch, dtype)
        size = 1024
        left, right = torch.ones(size, size, dtype=kind), torch.ones(size, size, dtype=kind)
        product = torch.empty(size, size, dtype=kind)
        flops = 2 * size**3 / _best_time(lambda: torch.mm(left, right, out=product), seconds)
        origin = torch.ones(1 << 28, dtype=torch.uint8)
        copy = torch.zeros_like(origin)
        bandwidth = 2 * origin.numel() / _best_time(lambda: copy.copy_(origin), seconds)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(kept)
    return DevicePeaks("cpu", {dtype: flops}, bandwidth, None, f"measured here, {used} threads")


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
