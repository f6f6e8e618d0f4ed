"""The one measuring loop: fresh engine processes, one or two side by side, and the record of what each showed.

Engines that live at once take turns: in each round of a case every one of them measures one iteration, in an order
drawn anew, so that whatever the machine does over seconds happens to all of them.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic_core import to_jsonable_python

from hybrid_ops.engines.devices import Device, divided
from hybrid_ops.engines.protocol import CAPTURE_STAGE, COMPILE_STAGE, LOAD, LOAD_STAGE, LoadFacts
from hybrid_ops.engines.replicas import Replicas
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.standby import Standby
from hybrid_ops.engines.worker import Worker, WorkerError
from hybrid_ops.errors import InputError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.conditions import ConditionMonitor, Limits
from hybrid_ops.measure.energy import CaseEnergy, EnergyMeter, readable_metrics
from hybrid_ops.measure.gpu import POWER_CAP
from hybrid_ops.measure.power_limit import PowerLimitError, power_limit
from hybrid_ops.measure.procedures.procedure import Iteration
from hybrid_ops.measure.records import CaseRecord, LaunchRecord
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.models.devices import DevicePeaks

MOST_ROUNDS = 40
"""Of a case in one launch, unless its workload asks for more."""
STAGE_SECONDS: Mapping[str, float] = {LOAD_STAGE: 1200.0, COMPILE_STAGE: 1800.0, CAPTURE_STAGE: 1200.0}
"""How long each stage of a load may take. Weights may lie on a slow disk, and a first compilation takes minutes."""
LENIENT_PLATFORMS = ("cpu",)
"""Where engines that live at once are not held against limits: what the machine does happens to all of them alike."""


@dataclass(frozen=True)
class Terms:
    """What holds for every launch of a run."""

    deadline_seconds: float = 300.0
    """Bounds each iteration."""
    stage_seconds: Mapping[str, float] = field(default_factory=lambda: STAGE_SECONDS)
    """Bounds each stage of a load."""
    limits: Limits = field(default_factory=Limits)
    peaks: DevicePeaks | None = None
    """The device's peaks, which utilisation is measured against; none without them."""
    least_seconds: float = 0.0
    """How long the rounds of a brief case last at least, because a machine's speed moves over seconds."""
    least_rounds: int = 0
    """How many rounds of a case there are at least, unless one tells everything."""


@dataclass(frozen=True)
class Launch:
    """One engine process that is to be started, and what is to be measured in it."""

    spec: EngineSpec
    cases: Sequence[Case]
    index: int
    device: Device
    folder: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables beyond the device's and the spec's."""
    interpreter: str = sys.executable
    arm: str = ""
    """The arm of a comparison that it belongs to; empty for a plain launch."""

    @property
    def variables(self) -> dict[str, str | None]:
        """All variables that are set for the engine; for the first of its replicas."""
        return self.variables_of(divided(self.device, self.spec.replicas)[0])

    def variables_of(self, device: Device) -> dict[str, str | None]:
        """Those of the engine that has `device`."""
        return {**device.rank_environment(self.spec.ranks), **self.spec.environment, **self.environment}


def run_launch(
    launch: Launch, terms: Terms, tell: Callable[[str], None] = lambda text: None, standby: Standby | None = None
) -> LaunchRecord:
    """Make one launch. `standby` gives the worker, where launches follow each other.

    A failure is written into the record, never raised.
    """
    return run_together([launch], terms, tell, standby)[0]


def run_together(
    launches: Sequence[Launch],
    terms: Terms,
    tell: Callable[[str], None] = lambda text: None,
    standby: Standby | None = None,
) -> list[LaunchRecord]:
    """Make launches of the same cases that live at once, and return their records in order.

    A failure is written into the records, never raised. On a CPU what happens to the machine happens to all alike, so
    there only the conditions of a lone launch are held against its limits.
    """
    clock = time.monotonic()
    together = _Together(launches, terms, tell, standby)
    together.run()
    for record in together.records:
        record.seconds = time.monotonic() - clock
    return together.records


def load_engine(
    worker: Worker, spec: EngineSpec, folder: Path, stage_seconds: Mapping[str, float] = STAGE_SECONDS
) -> LoadFacts:
    """Load the spec's model and return the worker's facts. Raises WorkerError, also for the wrong platform."""
    try:
        request = spec.engine.load_request(spec, folder, stage_seconds)
    except InputError as error:
        raise WorkerError(str(error), worker.log) from None
    worker.stage_seconds = stage_seconds
    facts = worker.ask(LOAD, spec.engine.load_patience(stage_seconds), **request)
    if (found := facts.device.platform) != spec.platform:
        raise WorkerError(
            f"the engine runs on {found}, not on {spec.platform}: install the {spec.platform} build of "
            f"{spec.engine.name}, or choose --perf-device {found}",
            worker.log,
        )
    return facts


class _Together:
    """Launches that live at once, while they do."""

    def __init__(
        self, launches: Sequence[Launch], terms: Terms, tell: Callable[[str], None], standby: Standby | None
    ) -> None:
        self.launches = launches
        self.terms = terms
        self.tell = tell
        self.standby = standby
        self.records = [unmade_record(launch) for launch in launches]
        self.workers: list[Worker] = []
        first = launches[0]
        self.order = random.Random(f"{first.spec.name}:{first.index}")  # noqa: S311
        self.shuffled = self.order.sample(first.cases, len(first.cases))

    def run(self) -> None:
        failing = 0
        try:
            with ExitStack() as stack:
                first = self.launches[0]
                stack.enter_context(power_limit(first.device, first.spec.power_limit_watts))
                for index, launch in enumerate(self.launches):
                    failing = index
                    engine = launch.spec.engine
                    worker = self._start(launch)
                    worker.engine = engine.name
                    self.workers.append(stack.enter_context(worker))
                for index, launch in enumerate(self.launches):
                    failing = index
                    self.tell(f"{_named(launch)}loading")
                    worker, stages = self.workers[index], self.terms.stage_seconds
                    self.records[index].facts = load_engine(worker, launch.spec, launch.folder, stages)
                self._measure()
        except WorkerError as error:
            self._write_failure(failing, str(error))
        except _Dead as dead:
            self._write_failure(dead.launch, str(dead.error))
        except PowerLimitError as error:
            self._write_failure(failing, str(error))
            for record in self.records:  # those that had been measured when the limit could not be restored
                record.violations.append(str(error))

    def _start(self, launch: Launch) -> Worker:
        program, own = launch.spec.engine.worker, divided(launch.device, launch.spec.replicas)
        if len(own) > 1:
            variables, cores = [launch.variables_of(device) for device in own], [device.cores for device in own]
            return Replicas(program, launch.folder, launch.interpreter, variables, cores)
        start = Worker if self.standby is None else self.standby.worker
        return start(program, launch.folder, launch.interpreter, launch.variables, launch.device.cores)

    def _measure(self) -> None:
        if self.standby is not None:
            self.standby.settle(self.terms.stage_seconds[LOAD_STAGE])
        processes = [worker.process.pid for worker in self.workers]
        device = self.launches[0].device
        with ConditionMonitor(device, processes, self.terms.limits) as monitor, EnergyMeter(device) as self.meter:
            for number, case in enumerate(self.shuffled, start=1):
                both = ", both arms interleaved" if len(self.launches) > 1 else ""
                self.tell(f"{case.workload_name} ({number} of {len(self.shuffled)}){both}")
                self._measure_case(case)
        is_held = len(self.records) == 1 or device.platform not in LENIENT_PLATFORMS
        violations = monitor.conditions.violations if is_held else []
        if self.launches[0].spec.power_limit_watts is not None:
            violations = [text for text in violations if not text.startswith(POWER_CAP)]  # it is what is measured
        for record in self.records:
            record.conditions = monitor.conditions.seen | {"energy": self.meter.facts}
            record.violations = list(violations)

    def _measure_case(self, case: Case) -> None:
        """All rounds of a case. A failure of one launch is that of the case in all of them."""
        for record in self.records:
            record.cases[case.id] = CaseRecord()
        energies = [CaseEnergy(self.meter) for _ in self.records]
        failing = 0
        begin = time.monotonic()
        try:
            for failing, launch in enumerate(self.launches):
                for note in case.procedure.notes(case, launch.folder):
                    self.records[failing].cases[case.id].notes.append(note)
                    self.tell(note)
            for is_warmup, failing in self._turns(case):
                seen = self.records[failing].cases[case.id]
                samples = seen.warmup if is_warmup else seen.iterations
                samples.append(self._iterate(failing, case, is_warmup, energies[failing]))
            for failing, record in enumerate(self.records):
                seen = record.cases[case.id]
                summary = case.procedure.summarize(self._own(failing, case), seen.iterations)
                seen.values, seen.absent = summary.values, summary.absent
                _add_energy(seen, energies[failing], case.spec.platform)
        except NotAMeasurement as error:
            self._refuse(case, failing, f"not a measurement: {error}")
        except WorkerError as error:
            if self.workers[failing].process.poll() is not None:
                raise _Dead(failing, error) from None
            self._refuse(case, failing, str(error))
        finally:
            for record in self.records:
                record.cases[case.id].seconds = time.monotonic() - begin

    def _turns(self, case: Case) -> Iterator[tuple[bool, int]]:
        """Whose turn it is, again and again until the case has been measured long enough: (warm-up, which launch)."""
        everyone = range(len(self.launches))
        for _ in range(case.workload.warmup_iterations):
            yield from ((True, launch) for launch in everyone)
        least = case.workload.timed_iterations
        seconds = 0.0
        if not case.procedure.is_exact(case):
            least = max(least, self.terms.least_rounds)
            seconds = self.terms.least_seconds if case.procedure.is_brief else 0.0
        begin = time.monotonic()
        rounds = 0
        while rounds < least or (rounds < MOST_ROUNDS and time.monotonic() - begin < seconds):
            yield from ((False, launch) for launch in self.order.sample(everyone, len(everyone)))
            rounds += 1

    def _iterate(self, which: int, case: Case, is_warmup: bool, energy: CaseEnergy) -> dict[str, Value]:
        facts = self.records[which].facts
        assert facts is not None
        with self.meter.iteration() as timed:
            iteration = Iteration(
                case=self._own(which, case),
                worker=self.workers[which],
                facts=facts,
                folder=self.launches[which].folder,
                deadline_seconds=self.terms.deadline_seconds,
                peaks=self.terms.peaks,
                is_warmup=is_warmup,
                notes=self.records[which].cases[case.id].notes,
                timed=timed,
            )
            values = dict(case.procedure.iterate(iteration))
        counted = case.procedure.tokens_value
        if counted is not None and case.spec.engine.uses_energy and not is_warmup:
            energy.add(timed, float(values[counted]))
        return values

    def _own(self, which: int, case: Case) -> Case:
        """The case as this launch has it: an arm's arguments are its own."""
        return replace(case, spec=self.launches[which].spec)

    def _refuse(self, case: Case, failing: int, error: str) -> None:
        for which, record in enumerate(self.records):
            seen = record.cases[case.id]
            seen.values = {}
            seen.error = error if which == failing else f"{_named(self.launches[failing])}{error}"

    def _write_failure(self, failing: int, error: str) -> None:
        """An engine is gone. Cases measured before keep their values; the others have none in any of the launches."""
        for which, record in enumerate(self.records):
            own = error if which == failing else f"{_named(self.launches[failing])}{error}"
            is_finished = any(seen.values or seen.error is not None for seen in record.cases.values())
            if which == failing and not is_finished:
                record.cases, record.error = {}, own
                continue
            for case in self.shuffled:
                seen = record.cases.setdefault(case.id, CaseRecord())
                if not seen.values and seen.error is None:
                    seen.error = own


class _Dead(Exception):
    """An engine process ended while a case was measured."""

    def __init__(self, launch: int, error: WorkerError) -> None:
        super().__init__(str(error))
        self.launch = launch
        self.error = error


def _add_energy(seen: CaseRecord, energy: CaseEnergy, platform: str) -> None:
    """The energy of a measured case, beside its values and those of each of its iterations."""
    values, reason = energy.summarize()
    seen.values |= values
    for iteration, own in zip(seen.iterations, energy.of_iterations()):
        iteration |= own
    if reason is not None:
        seen.absent |= {metric.name: reason for metric in readable_metrics(platform)}


def _named(launch: Launch) -> str:
    return f"arm {launch.arm}: " if launch.arm else ""


def unmade_record(launch: Launch, error: str | None = None) -> LaunchRecord:
    """The record of a launch that has not been made yet, or was not made because of `error`."""
    return LaunchRecord(
        launch_name=launch.spec.launch_name,
        index=launch.index,
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
        seconds=0.0,
        log=str(launch.folder / "engine.log"),
        device=to_jsonable_python(launch.device),
        arguments=launch.spec.engine_arguments,
        environment=launch.variables,
        error=error,
    )
