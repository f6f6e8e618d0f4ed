"""The conditions under which a launch was measured, and whether the machine was fit for it.

A monitor watches from the moment the engine has loaded until its last iteration. What it saw is kept with the launch; a
violated limit makes the launch's times no measurement. Exact metrics do not depend on it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from hybrid_ops.engines.devices import Device

SAMPLE_SECONDS = 0.5
SLOWDOWN_REASONS = {
    0x04: "power cap in software",
    0x08: "slow-down by the hardware",
    0x20: "thermal slow-down in software",
    0x40: "thermal slow-down by the hardware",
    0x80: "power brake by the hardware",
}
"""NVML's clock-event reasons that mean a GPU ran below the clocks it would have chosen."""


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
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._least_available = 1.0
        self._most_pressure = 0.0
        self._gpu: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._busy_before = self._busy = _busy_seconds()
        self._own_before = self._own_latest = _own_seconds(self._own)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        with _nvml_handle(self._device) as handle:
            ended = False
            while not ended:
                ended = self._ended.wait(SAMPLE_SECONDS)  # once more after the end, for launches shorter than a sample
                self._elapsed = time.monotonic() - self._start
                self._busy = _busy_seconds()
                self._own_latest = max(self._own_latest, _own_seconds(self._own))
                memory = psutil.virtual_memory()
                self._least_available = min(self._least_available, memory.available / memory.total)
                self._most_pressure = max(self._most_pressure, _memory_pressure())
                if handle is not None:
                    self._gpu.append(_gpu_sample(handle, self._own))

    @property
    def conditions(self) -> Conditions:
        """What was seen from the beginning to the end of the block."""
        foreign = (self._busy - self._busy_before) - (self._own_latest - self._own_before)
        seen: dict[str, Any] = {
            "seconds": self._elapsed,
            # Processor times tick in hundredths of a second, so a very short block can seem to use more than all.
            "foreign_cpu_share": min(1.0, max(0.0, foreign / (self._elapsed * (psutil.cpu_count() or 1)))),
            "load_average": os.getloadavg()[0],
            "least_memory_available_share": self._least_available,
            "most_memory_pressure_percent": self._most_pressure,
            "frequency_governor": _governor(),
        }
        if self._gpu:
            seen["gpu"] = _gpu_summary(self._gpu)
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
    if (gpu := seen.get("gpu")) is not None:
        if gpu["most_foreign_processes"] > limits.foreign_gpu_processes:
            found.append(f"{gpu['most_foreign_processes']} other processes computed on the GPU")
        for reason, share in gpu["slowdowns"].items():
            if share > limits.gpu_slowdown:
                found.append(f"{reason} in {share:.0%} of the samples (limit {limits.gpu_slowdown:.0%})")
    return found


def _busy_seconds() -> float:
    """Processor seconds that the whole machine has used, those taken by the hypervisor included."""
    times = psutil.cpu_times()
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


@contextlib.contextmanager
def _nvml_handle(device: Device) -> Iterator[Any]:
    """NVML's handle of the device, or None for a CPU."""
    if device.platform != "cuda":
        yield None
        return
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml.nvmlDeviceGetHandleByIndex(device.index)
    finally:
        pynvml.nvmlShutdown()


def _gpu_sample(handle: Any, own: Iterable[int]) -> dict[str, Any]:
    import pynvml

    running = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    return {
        "foreign_processes": len(running - _family(own)),
        "reasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "power_limit_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
        "sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
    }


def _gpu_summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    count = len(samples)
    return {
        "samples": count,
        "most_foreign_processes": max(sample["foreign_processes"] for sample in samples),
        "slowdowns": {
            reason: sum(bool(sample["reasons"] & bit) for sample in samples) / count
            for bit, reason in SLOWDOWN_REASONS.items()
            if any(sample["reasons"] & bit for sample in samples)
        },
        "most_temperature_c": max(sample["temperature_c"] for sample in samples),
        "mean_power_w": sum(sample["power_w"] for sample in samples) / count,
        "power_limit_w": min(sample["power_limit_w"] for sample in samples),
        "least_sm_clock_mhz": min(sample["sm_clock_mhz"] for sample in samples),
        "least_memory_clock_mhz": min(sample["memory_clock_mhz"] for sample in samples),
    }
