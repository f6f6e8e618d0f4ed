"""Where the energy of a device can be read: NVML's counter, NVML's power, or the counters of a processor (RAPL)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.devices import Device

RAPL = Path("/sys/class/powercap")
"""Where Linux shows the counters of the processor's packages, mostly to root alone."""


class CannotRead(Exception):
    """The energy of a device cannot be read. The message says why."""


@dataclass(frozen=True)
class Reading:
    """What a source showed at one moment."""

    at: float
    """On the system's monotonic clock, in seconds."""
    joules: float | None
    """Of a counter, since some moment in the past."""
    watts: float | None
    """Of a source without a counter."""
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None


class Source(ABC):
    """One device's energy. It may be read from several threads, one at a time."""

    name: ClassVar[str]
    has_clocks: ClassVar[bool] = False

    @abstractmethod
    def read(self) -> Reading:
        """What it shows now. Raises CannotRead."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of what it holds."""


class _Nvml(Source):
    has_clocks: ClassVar[bool] = True

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def close(self) -> None:
        import pynvml

        pynvml.nvmlShutdown()

    def read(self) -> Reading:
        import pynvml

        try:
            joules, watts = self._spent()
            return Reading(
                time.monotonic(), joules, watts, self._clock(pynvml.NVML_CLOCK_SM), self._clock(pynvml.NVML_CLOCK_MEM)
            )
        except pynvml.NVMLError as error:
            raise CannotRead(f"NVML: {error}") from None

    @abstractmethod
    def _spent(self) -> tuple[float | None, float | None]:
        """(joules of a counter, watts of a source without one)."""

    def _clock(self, kind: int) -> float | None:
        import pynvml

        try:
            return float(pynvml.nvmlDeviceGetClockInfo(self._handle, kind))
        except pynvml.NVMLError:
            return None


class NvmlCounter(_Nvml):
    """The energy counter that GPUs have since Volta."""

    name: ClassVar[str] = "NVML's energy counter"

    def _spent(self) -> tuple[float | None, float | None]:
        import pynvml

        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3, None


class NvmlPower(_Nvml):
    """The power of a GPU without a counter, to be integrated over time."""

    name: ClassVar[str] = "NVML's power, integrated"

    def _spent(self) -> tuple[float | None, float | None]:
        import pynvml

        return None, pynvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3


class Rapl(Source):
    """The packages of a processor together. A counter that wraps around goes on from where it was."""

    name: ClassVar[str] = "RAPL's package counters"

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._spans = [_number(package / "max_energy_range_uj") for package in packages]
        self._before = [_number(package / "energy_uj") for package in packages]
        self._spent = 0

    def read(self) -> Reading:
        for index, package in enumerate(self._packages):
            now = _number(package / "energy_uj")
            step = now - self._before[index]
            self._spent += step if step >= 0 else step + self._spans[index]
            self._before[index] = now
        return Reading(time.monotonic(), self._spent / 1e6, None)


@contextmanager
def open_source(device: Device) -> Iterator[Source]:
    """The source of a device's energy. Raises CannotRead with the reason where there is none."""
    source = _open(device)
    try:
        yield source
    finally:
        source.close()


def _open(device: Device) -> Source:
    if device.platform == "cuda":
        return _open_nvml(device)
    if device.platform == "cpu":
        return _open_rapl()
    raise CannotRead(f"the device of {device.name} is not known here")


def _open_nvml(device: Device) -> Source:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise CannotRead(f"NVML: {error}") from None
    reasons = []
    for kind in (NvmlCounter, NvmlPower):
        try:
            source = kind(pynvml.nvmlDeviceGetHandleByIndex(device.index))
            source.read()
            return source
        except (CannotRead, pynvml.NVMLError) as error:
            reasons.append(f"{kind.name}: {error}")
    pynvml.nvmlShutdown()
    raise CannotRead("; ".join(reasons))


def _open_rapl() -> Source:
    packages = [zone for zone in sorted(RAPL.glob("intel-rapl:*")) if _is_package(zone)]
    if not packages:
        raise CannotRead(f"this processor shows no energy counter in {RAPL}")
    return Rapl(packages)


def _is_package(zone: Path) -> bool:
    """Whether a zone is a whole package: one without parts of it, and not a sum of several."""
    try:
        return (zone / "name").read_text(encoding="utf-8").startswith("package")
    except OSError:
        return False


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="utf-8"))
    except PermissionError:
        raise CannotRead(f"{path}: only root may read it here") from None
    except (OSError, ValueError) as error:
        raise CannotRead(f"{path}: {error}") from None
