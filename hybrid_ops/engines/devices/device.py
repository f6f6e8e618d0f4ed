"""A device, and those that need no driver: this machine's processors, and a running server."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hybrid_ops.models.devices import MigSlice


@dataclass(frozen=True)
class Device:
    """One thing that an engine can be launched on."""

    platform: str
    """`cpu` or `cuda`; `server` for a running server, whose device nobody here knows."""
    index: int
    """Number of the GPU as NVML counts, a MIG instance's being its card's; 0 for the CPU. For reading only."""
    name: str
    device_class: str
    """The key of baselines that hold on such devices only: `nvidia-h200`, `nvidia-h200-mig-1g.18gb`."""
    uuid: str | None = None
    """What a GPU or a MIG instance is known by."""
    slice: MigSlice | None = None
    """Which part of its card a MIG instance is; None for what is whole."""

    @property
    def environment(self) -> dict[str, str | None]:
        """Variables that make an engine see this device alone.

        On a CPU one core is left to everything else, as `vllm serve` does, unless OMP_NUM_THREADS says otherwise: where
        OpenMP has them all, each step waits for whichever thread was disturbed (measured on two cores with two live
        engines: launch pairs vary by 4.6 %, and by 2.6 % with one core left, at the same speed).
        """
        if self.platform == "cuda":
            return {"CUDA_VISIBLE_DEVICES": self.uuid or str(self.index)}
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) - 1))
        return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads}


VECTOR_UNITS = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX512-BF16",
    "avx512f": "AVX512",
    "avx2": "AVX2",
    "sve2": "SVE2",
    "sve": "SVE",
    "asimd": "NEON",
}
"""By the flag in /proc/cpuinfo, the best first. Engines choose their kernels, and vLLM some data types, by them."""


@cache
def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Device:
    """This machine's processors, as one device.

    The vector unit is part of the device class: behind one name, such as that of a cloud's machine, there may be
    several generations of a processor.
    """
    text = ""
    with contextlib.suppress(OSError):
        text = cpuinfo.read_text(encoding="utf-8")
    name = _cpu_field(text, "model name") or "unknown processor"
    flags = (_cpu_field(text, "flags") or _cpu_field(text, "Features")).split()
    unit = next((unit for flag, unit in VECTOR_UNITS.items() if flag in flags), "")
    cores = len(os.sched_getaffinity(0))
    told = ", ".join(filter(None, [name, unit, f"{cores} cores"]))
    return Device("cpu", 0, told, "-".join(filter(None, ["cpu", slug(name), slug(unit), f"{cores}c"])))


def _cpu_field(cpuinfo: str, field: str) -> str:
    """The first processor's value of a field; empty where there is none."""
    match = re.search(rf"^{field}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""


def server(url: str) -> Device:
    """A running server, as a device: what is measured on it compares with what was measured on it before."""
    return Device("server", 0, f"server at {url}", f"server-{slug(url.partition('://')[2])}")


def slug(name: str) -> str:
    """A name for folders: `Intel(R) Xeon(R) Processor @ 2.10GHz` becomes `intel-xeon-processor`."""
    name = re.sub(r"\((r|tm)\)|@.*$|\bcpu\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")
