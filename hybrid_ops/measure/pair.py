"""One launch pair of an A/B comparison: two fresh engines of the same spec that differ in their arm.

Where both fit, they live at once and their iterations are interleaved in random order, so that whatever the machine
does over seconds and minutes happens to both; the pair's log-ratio is the median over the rounds. Elsewhere the
launches follow each other, A B in odd pairs and B A in even ones, so that a drift cancels over two pairs.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.spec import Case, EngineSpec
from hybrid_ops.engines.worker import Worker, WorkerError
from hybrid_ops.measure.conditions import ConditionMonitor, Limits
from hybrid_ops.measure.generation import NotAMeasurement, Value, summarize_launch
from hybrid_ops.measure.launch import CaseRecord, LaunchRecord, iterate, load_engine, run_launch
from hybrid_ops.measure.metrics import PACE, Kind, exact_metrics, find_metric
from hybrid_ops.measure.warmup import warm_up

ROUNDS_SECONDS = 10.0
"""How long the interleaved rounds of one case should last."""
LEAST_ROUNDS, MOST_ROUNDS = 8, 40
LIVE_PLATFORMS = ("cpu",)
"""Where two engines live at once by default. On a GPU vLLM's cache takes what memory there is."""


@dataclass(frozen=True)
class Arm:
    """One side of the comparison: an interpreter, its environment variables, its engine arguments."""

    name: str
    interpreter: str = sys.executable
    environment: dict[str, str | None] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class PairRecord:
    """What one pair was and saw. `log_ratios` are log(B / A) by case and metric; exact metrics have none."""

    engine: str
    index: int
    started: str
    seconds: float
    mode: Literal["live", "alternate"]
    arms: list[LaunchRecord]
    log_ratios: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """Why an arm did not load, or None."""
        return next((f"arm {name}: {arm.error}" for name, arm in zip("ab", self.arms) if arm.error), None)

    @property
    def failed(self) -> bool:
        return any(arm.failed for arm in self.arms)

    @property
    def unfit(self) -> bool:
        """Whether the machine was not fit to measure while an arm ran alone."""
        return any(arm.unfit for arm in self.arms)

    @property
    def versions(self) -> dict[str, str]:
        return self.arms[0].versions

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> PairRecord:
        arms = [LaunchRecord.from_json(arm) for arm in document.pop("arms")]
        return cls(**document, arms=arms)


@dataclass(frozen=True)
class Pair:
    """A launch pair to be made: the `index`-th of `spec`, to measure `cases` on both `arms`."""

    spec: EngineSpec
    cases: list[Case]
    index: int
    device: Device
    folder: Path
    arms: tuple[Arm, Arm]
    deadline_seconds: float
    tell: Callable[[str], None] = lambda text: None


def run_pair(pair: Pair) -> PairRecord:
    """Make the pair and return its record. A failure is written into it."""
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    mode: Literal["live", "alternate"] = "live" if pair.device.platform in LIVE_PLATFORMS else "alternate"
    first, second = _run_live(pair) if mode == "live" else _run_alternately(pair)
    return PairRecord(
        engine=pair.spec.launch_name,
        index=pair.index,
        started=started,
        seconds=time.monotonic() - clock,
        mode=mode,
        arms=[first, second],
        log_ratios={
            case.id: _log_ratios(first.cases.get(case.id), second.cases.get(case.id), mode) for case in pair.cases
        },
    )


def _run_alternately(pair: Pair) -> list[LaunchRecord]:
    order = pair.arms if pair.index % 2 else pair.arms[::-1]
    records = {}
    for arm in order:
        records[arm.name] = run_launch(
            pair.spec.with_arguments(arm.arguments),
            [case.with_arguments(arm.arguments) for case in pair.cases],
            pair.index,
            pair.device,
            pair.folder / arm.name,
            pair.deadline_seconds,
            arm.environment,
            partial(_tell_arm, pair.tell, arm.name),
            arm.interpreter,
        )
    return [records[arm.name] for arm in pair.arms]


def _run_live(pair: Pair) -> list[LaunchRecord]:
    spec, deadline_seconds = pair.spec, pair.deadline_seconds
    records = [_empty_record(pair, arm) for arm in pair.arms]
    order = random.Random(f"{spec.name}:{pair.index}")  # noqa: S311
    shuffled = order.sample(pair.cases, len(pair.cases))
    failing = records[0]
    try:
        with ExitStack() as stack:
            workers = []
            for arm, record in zip(pair.arms, records):
                failing = record
                workers.append(
                    stack.enter_context(
                        Worker(spec.worker_module, pair.folder / arm.name, arm.interpreter, record.environment)
                    )
                )
            for arm, record, worker in zip(pair.arms, records, workers):
                failing = record
                pair.tell(f"arm {arm.name}: loading")
                record.facts = load_engine(
                    worker, spec.with_arguments(arm.arguments), pair.folder / arm.name, deadline_seconds
                )
            with ConditionMonitor(pair.device, [worker.process.pid for worker in workers], Limits()) as monitor:
                for number, case in enumerate(shuffled, start=1):
                    pair.tell(f"{case.workload_name} ({number} of {len(shuffled)}), both arms interleaved")
                    for record in records:
                        record.cases[case.id] = CaseRecord()
                    for arm_index in _turns(case, workers, records, order, deadline_seconds):
                        failing = records[arm_index]
                        values = iterate(workers[arm_index], case, failing.facts, deadline_seconds)
                        failing.cases[case.id].iterations.append(values)
                    for record in records:
                        failing = record
                        seen = record.cases[case.id]
                        seen.values = summarize_launch(seen.iterations, exact_metrics(case.workload))
            # Kept, not judged: what happens to the machine happens to both arms alike.
            for record in records:
                record.conditions = monitor.conditions.seen
    except WorkerError as error:
        _mark(failing, shuffled, str(error))
    except NotAMeasurement as error:
        _mark(failing, shuffled, f"not a measurement: {error}")
    return records


def _turns(
    case: Case, workers: list[Worker], records: list[LaunchRecord], order: random.Random, deadline_seconds: float
) -> list[int]:
    """Warm both arms up and return the interleaved turns of the case: in each round both arms, in random order."""
    latest = 0.0
    for _ in range(max(1, case.workload.warmup_iterations)):
        for worker, record in zip(workers, records):
            begin = time.monotonic()
            record.cases[case.id].warmup.append(iterate(worker, case, record.facts, deadline_seconds, True))
            latest = time.monotonic() - begin
    rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, math.ceil(ROUNDS_SECONDS / (2 * latest))))
    return [arm for _ in range(rounds) for arm in order.sample((0, 1), 2)]


def _tell_arm(tell: Callable[[str], None], name: str, text: str) -> None:
    tell(f"arm {name}: {text}")


def _log_ratios(first: CaseRecord | None, second: CaseRecord | None, mode: str) -> dict[str, float]:
    """log(B / A) of each metric: live, the median over the rounds; else of the launches' values."""
    if first is None or second is None or first.error or second.error:
        return {}

    def log_ratio(numerator: Value, denominator: Value) -> float:
        return math.log(float(numerator) / float(denominator))

    ratios = {}
    for name in first.values.keys() & second.values.keys():
        metric = find_metric(name)
        if metric is None or metric.kind is Kind.EXACT:
            continue
        if name == "request_goodput" and not all(seen[name] for seen in (*first.iterations, *second.iterations)):
            continue  # where no request was good there is no rate to compare
        if mode == "live":
            rounds = list(zip(first.iterations, second.iterations))[_unsettled_rounds(first, second) :]
            ratios[name] = median(log_ratio(b[name], a[name]) for a, b in rounds)
        else:
            ratios[name] = log_ratio(second.values[name], first.values[name])
    return ratios


def _unsettled_rounds(first: CaseRecord, second: CaseRecord) -> int:
    """How many leading rounds an arm still needed to warm up, beyond the workload's own warm-up iterations."""
    arms = ([float(iteration[PACE]) for iteration in record.iterations] for record in (first, second))
    return max(warm_up(samples).iterations for samples in arms)


def _empty_record(pair: Pair, arm: Arm) -> LaunchRecord:
    return LaunchRecord(
        engine=pair.spec.launch_name,
        index=pair.index,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        log=str(pair.folder / arm.name / "engine.log"),
        device=asdict(pair.device),
        arguments=pair.spec.with_arguments(arm.arguments).engine_arguments,
        environment={**pair.device.environment, **pair.spec.environment, **arm.environment},
    )


def _mark(failing: LaunchRecord, cases: list[Case], error: str) -> None:
    """Write an error into the record of the arm that failed: into its unfinished cases, or for all of it."""
    if failing.cases:
        for case in cases:
            seen = failing.cases.setdefault(case.id, CaseRecord())
            if not seen.values:
                seen.error = error
    else:
        failing.error = error
