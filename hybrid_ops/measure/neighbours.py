"""Whether neighbours disturb: one engine measured alone and with engines beside it that work, in turns.

All engines live from the beginning to the end, so what differs between two launches cancels. In each round the engine
is measured alone, its neighbours idle, and beside them, in an order drawn anew, so a drift of the machine cancels too.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

from scipy.stats import quantile_test

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.worker import Worker
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.launch import load_engine
from hybrid_ops.measure.metrics import Kind, Metric
from hybrid_ops.measure.procedures.procedure import Iteration

LEAST_ROUNDS = 6
"""The fewest from which a median has an interval of `CONFIDENCE` without assuming a distribution."""
CONFIDENCE = 0.95
TURN_SECONDS = 0.5
"""How long the engine is measured at least in each turn, alone or beside its neighbours."""


class Finding(StrEnum):
    """What the rounds say of one metric."""

    UNDISTURBED = "undisturbed"
    DISTURBED = "DISTURBED"
    OPEN = "open: more --rounds"


@dataclass(frozen=True)
class Disturbance:
    """One metric, beside neighbours over alone."""

    metric: str
    ratio: float
    """Median over the rounds."""
    interval: tuple[float, float]
    """Of that median, with `CONFIDENCE`, by the sign test (Conover 1999, section 3.2)."""
    finding: Finding


def measure_disturbance(
    case: Case,
    devices: Sequence[Device],
    rounds: int,
    tolerance: float,
    folder: Path,
    deadline_seconds: float = 300.0,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Disturbance]:
    """Measure `case` on the first of `devices`, alone and beside engines of the same kind on all others.

    `rounds` are `LEAST_ROUNDS` or more. Raises WorkerError and NotAMeasurement.
    """
    order = random.Random(case.workload.definition(portable=False))  # noqa: S311
    seen: dict[str, list[dict[str, float]]] = {"alone": [], "beside": []}
    with ExitStack() as stack:
        engines = [_Engine(case, device, folder / str(number), stack) for number, device in enumerate(devices)]
        tell(f"loading {len(engines)} engines")
        iterations = [engine.load(deadline_seconds) for engine in engines]
        own, *others = iterations
        for iteration in iterations:
            for _ in range(max(1, case.workload.warmup_iterations)):
                case.procedure.iterate(iteration)
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            for turn in order.sample(sorted(seen), len(seen)):
                with ExitStack() as beside:
                    for other in others if turn == "beside" else []:
                        beside.enter_context(_Neighbour(other))
                    seen[turn].append(_turn(own))
    return [
        compare(metric.name, seen["alone"], seen["beside"], tolerance)
        for metric in timed_metrics(case)
        if all(values.get(metric.name) for values in (*seen["alone"], *seen["beside"]))
    ]


def timed_metrics(case: Case) -> list[Metric]:
    """The metrics of a case that a neighbour can disturb: its times and rates."""
    return [
        metric
        for metric in case.procedure.metrics_of(case)
        if metric.kind is Kind.ABSOLUTE and metric.unit != "B" and not metric.needs_peaks
    ]


def compare(
    metric: str, alone: Sequence[Mapping[str, float]], beside: Sequence[Mapping[str, float]], tolerance: float
) -> Disturbance:
    """What `LEAST_ROUNDS` rounds or more say of a metric. `tolerance` is relative, such as 0.05."""
    ratios = [math.log(b[metric] / a[metric]) for a, b in zip(alone, beside, strict=True)]
    found = quantile_test(ratios, p=0.5).confidence_interval(CONFIDENCE)
    low, high = float(found.low), float(found.high)
    margin = math.log1p(tolerance)
    finding = Finding.OPEN
    if -margin <= low and high <= margin:
        finding = Finding.UNDISTURBED
    elif low > margin or high < -margin:
        finding = Finding.DISTURBED
    return Disturbance(metric, math.exp(median(ratios)), (math.exp(low), math.exp(high)), finding)


class _Engine:
    """One engine on its own devices."""

    def __init__(self, case: Case, device: Device, folder: Path, stack: ExitStack) -> None:
        self._case, self._folder = case, folder
        variables = {**device.rank_environment(case.spec.ranks), **case.spec.environment}
        program = case.spec.engine.worker
        self._worker = stack.enter_context(Worker(program, folder, environment=variables, cores=device.cores))
        self._worker.engine = case.spec.engine.name

    def load(self, deadline_seconds: float) -> Iteration:
        facts = load_engine(self._worker, self._case.spec, self._folder)
        return Iteration(self._case, self._worker, facts, self._folder, deadline_seconds)


class _Neighbour:
    """An engine that works, iteration after iteration, from the beginning of the block to its end."""

    def __init__(self, iteration: Iteration) -> None:
        self._iteration = iteration
        self._begun, self._ended = threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        try:
            while not self._ended.is_set():
                self._begun.set()
                self._iteration.case.procedure.iterate(self._iteration)
        except Exception as error:
            self._failure = error
        finally:
            self._begun.set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure


def _turn(own: Iteration) -> dict[str, float]:
    """The median of each value over the iterations of one turn."""
    samples: list[Mapping[str, object]] = []
    begin = time.monotonic()
    while not samples or time.monotonic() - begin < TURN_SECONDS:
        samples.append(own.case.procedure.iterate(own))
    numbers = {name for name, value in samples[0].items() if isinstance(value, int | float)}
    return {name: median(float(sample[name]) for sample in samples) for name in numbers}  # type: ignore[arg-type]
