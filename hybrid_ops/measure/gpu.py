"""What NVML tells of a GPU: how it is set, and what it shows while a launch runs.

Any question may be refused, by a card, a driver or a container. What was not told is null, with the reason under
`unchecked`; it is never taken for zero or for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.devices.nvml import Refusal, ask

CLOCK_SM, CLOCK_MEMORY, TEMPERATURE_GPU = 1, 2, 0
"""NVML's numbers for what `nvmlDeviceGetClockInfo` and `nvmlDeviceGetTemperature` are asked about."""
POWER_CAP = "power cap in software"
SLOWDOWN_REASONS = {
    0x08: "slow-down by the hardware",
    0x20: "thermal slow-down in software",
    0x40: "thermal slow-down by the hardware",
    0x80: "power brake by the hardware",
}
"""NVML's clock-event reasons that mean a GPU ran below the clocks that it is made for."""
LIMIT_REASONS = {0x02: "clocks set for applications", 0x04: POWER_CAP, 0x10: "clocks synchronised with other cards"}
"""Those that hold clocks down as someone has set the card: normal as long as the settings are."""
INITIAL_PROCESSES = "pid:[4026531836]"
"""What Linux calls the space of processes that is no container's."""

SETTINGS: dict[str, Callable[[Any], Any]] = {
    "driver": lambda card: ask("nvmlSystemGetDriverVersion"),
    "cuda": lambda card: _version(ask("nvmlSystemGetCudaDriverVersion")),
    "persistence_mode": lambda card: bool(ask("nvmlDeviceGetPersistenceMode", card)),
    "ecc_mode": lambda card: bool(ask("nvmlDeviceGetEccMode", card)[0]),
    "mig_mode": lambda card: bool(ask("nvmlDeviceGetMigMode", card)[0]),
    "power_limit_w": lambda card: ask("nvmlDeviceGetEnforcedPowerLimit", card) / 1e3,
    "default_power_limit_w": lambda card: ask("nvmlDeviceGetPowerManagementDefaultLimit", card) / 1e3,
    "application_sm_clock_mhz": lambda card: ask("nvmlDeviceGetApplicationsClock", card, CLOCK_SM),
    "application_memory_clock_mhz": lambda card: ask("nvmlDeviceGetApplicationsClock", card, CLOCK_MEMORY),
    "default_application_sm_clock_mhz": lambda card: ask("nvmlDeviceGetDefaultApplicationsClock", card, CLOCK_SM),
    "default_application_memory_clock_mhz": lambda card: ask(
        "nvmlDeviceGetDefaultApplicationsClock", card, CLOCK_MEMORY
    ),
    "most_sm_clock_mhz": lambda card: ask("nvmlDeviceGetMaxClockInfo", card, CLOCK_SM),
    "most_memory_clock_mhz": lambda card: ask("nvmlDeviceGetMaxClockInfo", card, CLOCK_MEMORY),
}
"""How a card is set, by field. What of it times depend on is `COMPARED_SETTINGS`."""
COMPARED_SETTINGS = (
    "ecc_mode",
    "mig_mode",
    "power_limit_w",
    "application_sm_clock_mhz",
    "application_memory_clock_mhz",
)
"""The settings that must be a baseline's for times to be compared with it. A driver may change: that is what a
comparison is for. Persistence only spares the first launch a second."""

READINGS: dict[str, Callable[[Any], Any]] = {
    "reasons": lambda card: ask("nvmlDeviceGetCurrentClocksThrottleReasons", card),
    "temperature_c": lambda card: ask("nvmlDeviceGetTemperature", card, TEMPERATURE_GPU),
    "power_w": lambda card: _power(card),
    "power_limit_w": lambda card: ask("nvmlDeviceGetEnforcedPowerLimit", card) / 1e3,
    "sm_clock_mhz": lambda card: ask("nvmlDeviceGetClockInfo", card, CLOCK_SM),
    "memory_clock_mhz": lambda card: ask("nvmlDeviceGetClockInfo", card, CLOCK_MEMORY),
}
"""What is read of a card in each sample, by field."""
PROCESSES = "processes"


def gpu_settings(device: Device) -> tuple[dict[str, Any], dict[str, str]]:
    """How the device's card is set, null where it does not tell, and why it does not. NVML must be started."""
    try:
        _, card = _handles(device)
    except Refusal as refusal:
        return dict.fromkeys(SETTINGS), dict.fromkeys(SETTINGS, str(refusal))
    return _all_of(SETTINGS, card)


class GpuWatch:
    """Samples of one GPU or MIG instance, and what they come to. NVML must be started.

    Parameters
    ----------
    device: a card, or a MIG instance: then clocks, temperature and the power limit are its card's
    family: gives the processes that are the run's own, at each sample
    """

    def __init__(self, device: Device, family: Callable[[], Iterable[int]]) -> None:
        self._device = device
        self._family = family
        self._samples: list[dict[str, Any]] = []
        self._refusals: dict[str, str] = {}
        """Why a field was last refused."""
        self._settings, self._unset = gpu_settings(device)

    def sample(self) -> None:
        """Read everything once. What is refused is null in this sample."""
        try:
            handle, card = _handles(self._device)
        except Refusal as refusal:
            self._refusals |= dict.fromkeys((*READINGS, PROCESSES), str(refusal))
            self._samples.append(dict.fromkeys((*READINGS, PROCESSES)))
            return
        seen, refused = _all_of(READINGS, card)
        if self._device.slice is not None:
            seen["power_w"], refused["power_w"] = None, "a MIG instance shares its card's power reading with others"
        try:
            running = {process.pid for process in ask("nvmlDeviceGetComputeRunningProcesses", handle)}
            seen[PROCESSES] = attributed(running, set(self._family()), _is_in_a_container())
        except Refusal as refusal:
            seen[PROCESSES], refused[PROCESSES] = None, str(refusal)
        self._refusals |= refused
        self._samples.append(seen)

    def summary(self) -> dict[str, Any]:
        """What the samples come to: shares, means and extremes of what was read; null for what never was."""
        reasons = self._read("reasons")
        processes = self._read(PROCESSES)
        unattributed = max((unknown for _, unknown in processes), default=0)
        unchecked = {**self._unset, **self._unread()}
        if unattributed:
            unchecked["foreign_processes"] = (
                f"whose the GPU's processes are is unknown in this container, up to {unattributed} at once"
            )
        return {
            "samples": len(self._samples),
            "most_foreign_processes": max((foreign for foreign, _ in processes), default=None),
            "most_unattributed_processes": unattributed if processes else None,
            "slowdowns": _shares(reasons, SLOWDOWN_REASONS),
            "limited_clocks": _shares(reasons, LIMIT_REASONS),
            "most_temperature_c": max(self._read("temperature_c"), default=None),
            "mean_power_w": _mean(self._read("power_w")),
            "power_limit_w": min(self._read("power_limit_w"), default=None),
            "least_sm_clock_mhz": min(self._read("sm_clock_mhz"), default=None),
            "least_memory_clock_mhz": min(self._read("memory_clock_mhz"), default=None),
            "settings": self._settings,
            "unchecked": unchecked,
        }

    def _read(self, name: str) -> list[Any]:
        return [sample[name] for sample in self._samples if sample[name] is not None]

    def _unread(self) -> dict[str, str]:
        """Why fields were refused, and how often if not always."""
        found = {}
        for name, reason in self._refusals.items():
            missing = sum(sample[name] is None for sample in self._samples)
            often = "" if missing == len(self._samples) else f", in {missing} of {len(self._samples)} samples"
            found[name] = reason + often
        return found


def attributed(running: set[int], own: set[int], in_container: bool) -> tuple[int, int]:
    """(foreign processes, processes that may be anyone's) among those that compute on a GPU.

    In a container NVML may show the host's numbers. They are this container's only if the run's own are among them, and
    even then one that no process here has may be another container's. Outside of any, such a process has just ended.
    """
    others = running - own
    present = {process for process in others if psutil.pid_exists(process)}
    if not in_container:
        return len(present), 0
    foreign = present if running & own else set()
    return len(foreign), len(others - foreign)


def setting_differences(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Each setting that times depend on and that was another in the baseline. What is unknown does not count."""
    return [
        f"{name} is {now[name]} now, {recorded[name]} in the baseline"
        for name in COMPARED_SETTINGS
        if recorded.get(name) is not None and now.get(name) is not None and recorded[name] != now[name]
    ]


def _handles(device: Device) -> tuple[Any, Any]:
    """NVML's handles of the device and of its card, which are one unless it is a MIG instance. Raises Refusal."""
    handle = ask("nvmlDeviceGetHandleByUUID", device.uuid)
    return handle, handle if device.slice is None else ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)


def _all_of(questions: dict[str, Callable[[Any], Any]], card: Any) -> tuple[dict[str, Any], dict[str, str]]:
    answers: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name, question in questions.items():
        try:
            answers[name] = question(card)
        except Refusal as refusal:
            answers[name], refused[name] = None, str(refusal)
    return answers, refused


def _power(card: Any) -> float:
    milliwatts = ask("nvmlDeviceGetPowerUsage", card)
    if milliwatts == 0:
        raise Refusal("NVML says 0 W, which no card takes")
    return milliwatts / 1e3


def _version(number: int) -> str:
    """`13.0` of NVML's 13000."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _is_in_a_container() -> bool:
    try:
        return str(Path("/proc/self/ns/pid").readlink()) != INITIAL_PROCESSES
    except OSError:
        return True


def _shares(reasons: list[int], names: dict[int, str]) -> dict[str, float] | None:
    """In which share of the samples each reason held; null without any sample."""
    if not reasons:
        return None
    shares = {name: sum(bool(seen & bit) for seen in reasons) / len(reasons) for bit, name in names.items()}
    return {name: share for name, share in shares.items() if share}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
