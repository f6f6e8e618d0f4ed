"""The conditions under which a launch was measured, and whether the machine was fit for it.

A monitor watches from the moment the engine has loaded until its last iteration. What it saw is kept with the launch; a
violated limit makes the launch's times no measurement. Exact metrics do not depend on it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.devices.nvml import Refusal, started
from hybrid_ops.measure.gpu import POWER_CAP, GpuWatch

SAMPLE_SECONDS = 0.5
LAST_SAMPLE_SECONDS = 60.0
"""How long the last sample may take: a driver that hangs must not hang the run."""


@dataclass(frozen=True)
class Limits:
    """What a machine may show during a measurement that is to count."""

    foreign_cpu: float = 0.05
    """Share of all processors that other processes (and the hypervisor) used, for engines on the CPU."""
    memory_available: float = 0.05
    """Least share of the memory that is available."""
    memory_pressure: float = 10.0
    """Percent of the last 10 s in which some task waited for memory (Linux PSI)."""
    foreign_gpu_processes: int = 0
    """Other processes that compute on the device."""
    gpu_slowdown: float = 0.05
    """Share of the samples in which the GPU's clocks were held down."""


@dataclass(frozen=True)
class Conditions:
    """What was seen, and each violated limit in words."""

    seen: dict[str, Any]
    violations: list[str]


class ConditionMonitor:
    """Watches the machine while the block runs; afterwards `conditions` says what it saw."""

    def __init__(self, device: Device, engine_processes: Iterable[int], limits: Limits) -> None:
        self._device = device
        self._limits = limits
        self._own = [os.getpid(), *engine_processes]
        self._cores = device.cores or tuple(range(psutil.cpu_count() or 1))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._least_available = 1.0
        self._most_pressure = 0.0
        self.samples = 0
        """How often it has looked."""
        self._elapsed = 0.0
        self._gpu: GpuWatch | None = None
        self._gpu_refusal: str | None = None
        self._failure: str | None = None

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._busy_before = self._busy = _busy_seconds(self._cores)
        self._own_before = self._own_latest = _own_seconds(self._own)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(LAST_SAMPLE_SECONDS)
        if self._thread.is_alive():
            self._failure = f"no sample within {LAST_SAMPLE_SECONDS:.0f} s"

    def _watch(self) -> None:
        try:
            with self._gpu_watch():
                ended = False
                while not ended:
                    ended = self._ended.wait(SAMPLE_SECONDS)  # once more after the end, if it came before a sample
                    self._sample()
        except Exception as error:
            # Nobody would see it in this thread, and a launch that was not watched must not pass for one that was fit.
            self._failure = f"{type(error).__name__}: {error}"

    def _sample(self) -> None:
        self._elapsed = time.monotonic() - self._start
        self._busy = _busy_seconds(self._cores)
        self._own_latest = max(self._own_latest, _own_seconds(self._own))
        memory = psutil.virtual_memory()
        self._least_available = min(self._least_available, memory.available / memory.total)
        self._most_pressure = max(self._most_pressure, _memory_pressure())
        if self._gpu is not None:
            self._gpu.sample()
        self.samples += 1

    @contextlib.contextmanager
    def _gpu_watch(self) -> Iterator[None]:
        """Watch the GPU, too, where the device is one and NVML starts."""
        with contextlib.ExitStack() as stack:
            if self._device.platform == "cuda":
                try:
                    stack.enter_context(started())
                    self._gpu = GpuWatch(self._device, lambda: _family(self._own))
                except Refusal as refusal:
                    self._gpu_refusal = f"NVML does not start ({refusal})"
            yield

    @property
    def conditions(self) -> Conditions:
        """What was seen from the beginning to the end of the block."""
        if self._failure is not None:
            return Conditions({"failure": self._failure}, [f"the machine could not be watched: {self._failure}"])
        foreign = (self._busy - self._busy_before) - (self._own_latest - self._own_before)
        seen: dict[str, Any] = {
            "seconds": self._elapsed,
            # Processor times tick in hundredths of a second, so a very short block can seem to use more than all.
            "foreign_cpu_share": min(1.0, max(0.0, foreign / (self._elapsed * len(self._cores)))),
            "load_average": os.getloadavg()[0],
            "least_memory_available_share": self._least_available,
            "most_memory_pressure_percent": self._most_pressure,
            "frequency_governor": _governor(),
        }
        if self._gpu is not None:
            seen["gpu"] = self._gpu.summary()
        elif self._gpu_refusal is not None:
            seen["gpu"] = {"unchecked": {"everything": self._gpu_refusal}}
        return Conditions(seen, violations(seen, self._device.platform, self._limits))


def violations(seen: dict[str, Any], platform: str, limits: Limits) -> list[str]:
    """Each limit that `seen` violates, in words with both numbers."""
    found = []
    foreign, available = seen["foreign_cpu_share"], seen["least_memory_available_share"]
    pressure = seen["most_memory_pressure_percent"]
    if platform == "cpu" and foreign > limits.foreign_cpu:
        found.append(f"other processes used {foreign:.0%} of the processors (limit {limits.foreign_cpu:.0%})")
    if available < limits.memory_available:
        found.append(f"only {available:.1%} of the memory was available (limit {limits.memory_available:.0%})")
    if pressure > limits.memory_pressure:
        found.append(f"tasks waited for memory {pressure:.0f} % of the time (limit {limits.memory_pressure:.0f} %)")
    return found + _gpu_violations(seen.get("gpu", {}), limits)


def _gpu_violations(gpu: dict[str, Any], limits: Limits) -> list[str]:
    """Those of a GPU. What was not told violates nothing: it is shown as unchecked."""
    found = []
    foreign = gpu.get("most_foreign_processes") or 0
    if foreign > limits.foreign_gpu_processes:
        found.append(f"{foreign} other {'process' if foreign == 1 else 'processes'} computed on the GPU")
    for reason, share in (gpu.get("slowdowns") or {}).items():
        if share > limits.gpu_slowdown:
            found.append(f"{reason} in {share:.0%} of the samples (limit {limits.gpu_slowdown:.0%})")
    # At its own power limit a card caps its clocks whenever it has enough to compute. Below it someone else does.
    capped = (gpu.get("limited_clocks") or {}).get(POWER_CAP, 0.0)
    limit, default = gpu.get("power_limit_w"), gpu.get("settings", {}).get("default_power_limit_w")
    if capped > limits.gpu_slowdown and limit is not None and default is not None and limit < default:
        found.append(
            f"{POWER_CAP} in {capped:.0%} of the samples (limit {limits.gpu_slowdown:.0%}) at a power limit of "
            f"{limit:.0f} W, below the card's own {default:.0f} W"
        )
    return found


def _busy_seconds(cores: Sequence[int]) -> float:
    """Processor seconds that were used on these cores, those taken by the hypervisor included."""
    by_core = psutil.cpu_times(percpu=True)
    return sum(_busy(by_core[core]) for core in cores if core < len(by_core))


def _busy(times: Any) -> float:
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guest time is contained in user time already.
    return sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)


def _own_seconds(processes: Iterable[int]) -> float:
    """Processor seconds of these processes and their descendants, ended ones included once they were waited for."""
    total = 0.0
    for process in _family(processes):
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(process).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _family(processes: Iterable[int]) -> set[int]:
    """These processes and all their descendants."""
    family = set(processes)
    for process in tuple(family):
        with contextlib.suppress(psutil.Error):
            family |= {child.pid for child in psutil.Process(process).children(recursive=True)}
    return family


def _memory_pressure() -> float:
    """Percent of the last 10 s in which some task waited for memory; 0 where Linux does not tell."""
    try:
        first = Path("/proc/pressure/memory").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return 0.0
    return float(dict(part.split("=") for part in first.split()[1:])["avg10"])


def _governor() -> str | None:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="utf-8").strip()
    except OSError:
        return None
