"""Energy of the timed iterations alone: joules, joules a token, mean power and clocks.

A thread reads the device's source while a launch is measured, and once more at the beginning and the end of each
iteration. The energy of a stretch of time is what the source shows at its end less what it shows at its beginning. The
values are those of all timed iterations of a case together, because a short one is no longer than a counter's tick.
Where nothing can be read there is no metric, and the reason stands in the launch's conditions: never a zero.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, Self

import numpy as np

from hybrid_ops.engines.devices import Device, devices
from hybrid_ops.measure.energy_sources import CannotRead, Reading, Source, open_source
from hybrid_ops.measure.metrics import Direction, Kind, Metric, Scope
from hybrid_ops.measure.values import Value

READ_SECONDS = 0.05
"""How often the source is read."""
LONGEST_GAP_SECONDS = 1.0
"""A time without a reading that is longer is not covered."""
LEAST_COVERAGE = 0.9
"""The share of the timed seconds that must be covered."""


def _metric(name: str, unit: str, direction: Direction, description: str) -> Metric:
    return Metric(name, unit, Kind.ABSOLUTE, direction, Scope.DEVICE_CLASS, description)


ENERGY = _metric("energy_joules", "J", Direction.LOWER, "Energy of the device over one timed iteration")
JOULES_PER_TOKEN = _metric(
    "joules_per_token",
    "J/tok",
    Direction.LOWER,
    "Energy over the tokens put out; of a test that only reads a prompt, over its tokens",
)
TOKENS_PER_JOULE = _metric("tokens_per_joule", "tok/J", Direction.HIGHER, "The same the other way round")
MEAN_POWER = _metric("mean_power_watts", "W", Direction.LOWER, "Energy over the time of the timed iterations")
MEAN_CLOCK = _metric("mean_sm_clock_mhz", "MHz", Direction.HIGHER, "Clock of the multiprocessors in that time")
ENERGY_METRICS = (ENERGY, JOULES_PER_TOKEN, TOKENS_PER_JOULE, MEAN_POWER, MEAN_CLOCK)


@cache
def readable_metrics(platform: str) -> tuple[Metric, ...]:
    """The metrics that all devices of a platform can give; none where the energy of one cannot be read."""
    found: tuple[Metric, ...] = ()
    for device in devices(platform) if platform in ("cpu", "cuda") else ():
        try:
            with open_source(device) as source:
                found = tuple(metric for metric in ENERGY_METRICS if metric is not MEAN_CLOCK or source.has_clocks)
        except CannotRead:
            return ()
    return found


Stretch = tuple[float, float]
"""A stretch of time: its beginning and end on the system's monotonic clock."""


@dataclass(frozen=True)
class Used:
    """What a device used over some stretches of time."""

    joules: float
    seconds: float
    covered_seconds: float
    clock_seconds: float
    """The SM clock in MHz, times the seconds it was seen for; 0 where there is none."""


class EnergyMeter:
    """Reads the energy of a device while the block runs."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._source: Source | None = None
        self._reason: str | None = None
        self._readings: list[Reading] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._source = self._stack.enter_context(open_source(self._device))
        except CannotRead as error:
            self._reason = str(error)
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._source is not None:
            self._thread.join()
        self._stack.close()

    @property
    def facts(self) -> dict[str, Any]:
        """What stands in the launch's conditions: the source, or why there is none."""
        return {"source": None if self._source is None else self._source.name, "reason": self._reason}

    @contextmanager
    def iteration(self) -> Iterator[list[Stretch]]:
        """A list for the stretches that the block times. Where it names none, the whole block is one."""
        stretches: list[Stretch] = []
        self._read()
        begin = time.monotonic()
        yield stretches
        if not stretches:
            stretches.append((begin, time.monotonic()))
        self._read()

    def used(self, stretches: Sequence[Stretch]) -> Used | None:
        """What was used over `stretches`; None where it cannot be read."""
        with self._lock:
            readings = list(self._readings)
        return None if self._reason is not None or len(readings) < 2 else used_over(readings, stretches)

    def _watch(self) -> None:
        while not self._ended.wait(READ_SECONDS) and self._reason is None:
            self._read()

    def _read(self) -> None:
        with self._lock:
            if self._source is None or self._reason is not None:
                return
            try:
                self._readings.append(self._source.read())
            except CannotRead as error:
                self._reason = f"it could be read no longer: {error}"


def used_over(readings: Sequence[Reading], stretches: Sequence[Stretch]) -> Used:
    """What two readings or more, in order, say of `stretches`. Between two readings a counter grows evenly."""
    times = np.array([reading.at for reading in readings])
    clocks = np.array([reading.sm_clock_mhz or 0.0 for reading in readings])
    gaps = np.diff(times)
    clock_seconds = np.concatenate([[0.0], np.cumsum(gaps * clocks[:-1])])
    covered = np.concatenate([[0.0], np.cumsum(np.where(gaps <= LONGEST_GAP_SECONDS, gaps, 0.0))])

    def over(grown: Any) -> float:
        return sum(float(np.interp(end, times, grown) - np.interp(begin, times, grown)) for begin, end in stretches)

    seconds = sum(end - begin for begin, end in stretches)
    return Used(over(_cumulated(readings)), seconds, over(covered), over(clock_seconds))


def _cumulated(readings: Sequence[Reading]) -> Any:
    """Joules since the first reading: the counter's, or power integrated by trapezoids."""
    if readings[0].joules is not None:
        counted = np.array([reading.joules for reading in readings], dtype=float)
        return counted - counted[0]
    times = np.array([reading.at for reading in readings])
    watts = np.array([reading.watts for reading in readings], dtype=float)
    return np.concatenate([[0.0], np.cumsum(np.diff(times) * (watts[1:] + watts[:-1]) / 2)])


@dataclass
class CaseEnergy:
    """The energy of one case in one launch."""

    meter: EnergyMeter
    iterations: list[tuple[Used | None, float]] = field(default_factory=list)
    """What each timed iteration used, and its tokens."""

    def add(self, stretches: Sequence[Stretch], tokens: float) -> None:
        """Count a timed iteration."""
        self.iterations.append((self.meter.used(stretches), tokens))

    def of_iterations(self) -> list[dict[str, Value]]:
        """Each timed iteration's own values; none for one that was too short to tell."""
        return [{} if used is None else _values([(used, tokens)]) for used, tokens in self.iterations]

    def summarize(self) -> tuple[dict[str, Value], str | None]:
        """The values of all timed iterations together, or why there are none though there is a source."""
        facts = self.meter.facts
        known = [(used, tokens) for used, tokens in self.iterations if used is not None]
        if not self.iterations or facts["source"] is None:
            return {}, None
        if len(known) < len(self.iterations):
            return {}, str(facts["reason"] or "there are no readings")
        if values := _values(known):
            return values, None
        seconds = sum(used.seconds for used, _ in known)
        coverage = sum(used.covered_seconds for used, _ in known) / seconds
        if coverage < LEAST_COVERAGE:
            return {}, f"the readings of {facts['source']} cover only {coverage:.0%} of the timed seconds"
        return {}, f"{facts['source']} did not move in the {seconds:.3g} s that were timed"


def _values(iterations: Sequence[tuple[Used, float]]) -> dict[str, Value]:
    """The metrics over some iterations; empty where the readings do not cover them or did not move."""
    joules = sum(used.joules for used, _ in iterations)
    seconds = sum(used.seconds for used, _ in iterations)
    tokens = sum(tokens for _, tokens in iterations)
    coverage = sum(used.covered_seconds for used, _ in iterations) / seconds
    if joules <= 0 or tokens <= 0 or coverage < LEAST_COVERAGE:
        return {}
    values: dict[str, Value] = {
        ENERGY.name: joules / len(iterations),
        JOULES_PER_TOKEN.name: joules / tokens,
        TOKENS_PER_JOULE.name: tokens / joules,
        MEAN_POWER.name: joules / seconds,
        "energy_coverage": min(1.0, coverage),
    }
    if clock_seconds := sum(used.clock_seconds for used, _ in iterations):
        values[MEAN_CLOCK.name] = clock_seconds / seconds
    return values
