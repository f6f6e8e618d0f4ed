"""A device, and those that need no driver: this machine's processors, and a running server."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    cores: tuple[int, ...] = ()
    """The cores that an engine is bound to, as Linux numbers them; empty where it may use all of its device."""
    members: tuple[Device, ...] = ()
    """The GPUs that it is made of; empty for a single device."""

    @property
    def lock_name(self) -> str:
        """What its lease is filed under."""
        # Not by its class: who may use fewer of the machine's cores has another class and the same core.
        return self.uuid or ("-".join(["cpu-core", *map(str, self.cores)]) if self.cores else self.device_class)

    @property
    def environment(self) -> dict[str, str | None]:
        """Variables that make an engine of one rank see this device alone."""
        return self.rank_environment(1)

    def rank_environment(self, ranks: int) -> dict[str, str | None]:
        """Variables that make an engine of so many ranks see this device alone.

        On a CPU one core is left to everything else, as `vllm serve` does, unless OMP_NUM_THREADS says otherwise: where
        OpenMP has them all, each step waits for whichever thread was disturbed (measured on two cores with two live
        engines: launch pairs vary by 4.6 %, and by 2.6 % with one core left, at the same speed). An engine that is
        bound to cores has a thread on each. vLLM's ranks on a CPU need to be told their cores: by itself it gives each
        a NUMA node of its own, and fails where there are fewer.
        """
        if self.platform == "cuda":
            uuids = [one.uuid or str(one.index) for one in self.members or (self,)]
            return {"CUDA_VISIBLE_DEVICES": ",".join(uuids)}
        variables: dict[str, str | None] = {"CUDA_VISIBLE_DEVICES": ""}
        if self.cores:
            return variables | {"OMP_NUM_THREADS": str(len(self.cores) // ranks), BIND: _bindings(self.cores, ranks)}
        every = sorted(os.sched_getaffinity(0))
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(max(1, len(every) - 1))
        return variables if ranks == 1 else variables | {BIND: _bindings(every, ranks)}


def divided(device: Device, parts: int) -> list[Device]:
    """A device that was leased for several engines, as each of them has it."""
    each = max(len(device.cores), len(device.members)) // parts
    if parts == 1 or each == 0:
        return [device] * parts
    shares = [slice(part * each, (part + 1) * each) for part in range(parts)]
    if device.cores:
        return [replace(device, cores=device.cores[share]) for share in shares]
    return [replace(device, members=device.members[share]) for share in shares]


def _bindings(cores: Sequence[int], ranks: int) -> str:
    """vLLM's list of cores by rank, such as `0,1|2,3`: as many for each, and none for two."""
    each = max(1, len(cores) // ranks)
    return "|".join(",".join(map(str, cores[rank * each : (rank + 1) * each])) for rank in range(ranks))


BIND = "VLLM_CPU_OMP_THREADS_BIND"
"""vLLM's variable for the cores of each of its ranks on a CPU."""
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


def cpu_cores() -> tuple[Device, ...]:
    """Each core of this machine that this process may use, as a device that can be leased by itself."""
    whole = cpu()
    return tuple(replace(whole, index=core, cores=(core,)) for core in sorted(os.sched_getaffinity(0)))


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
