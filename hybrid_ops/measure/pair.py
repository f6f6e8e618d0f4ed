"""One launch pair of an A/B comparison: two fresh engines of the same spec that differ in their arm.

Where the device holds both, they live at once and take turns; the pair's log-ratio is the median over the rounds.
Elsewhere the launches follow each other, A B in odd pairs and B A in even ones, so that a drift cancels over two pairs.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.launch import Launch, Terms, run_launch, run_together, unmade_record
from hybrid_ops.measure.metrics import Kind
from hybrid_ops.measure.records import CaseRecord, LaunchRecord, PairRecord
from hybrid_ops.measure.values import Value
from hybrid_ops.measure.warmup import warm_up

LIVE_SECONDS = 10.0
"""How long the rounds of one brief case last at least where both arms live at once."""
LIVE_ROUNDS = 8
"""How many rounds there are at least then."""


@dataclass(frozen=True)
class Arm:
    """One side of the comparison: an interpreter, its environment variables, its engine arguments."""

    name: str
    interpreter: str = sys.executable
    environment: dict[str, str | None] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A launch pair to be made: the `index`-th of `spec`, to measure `cases` on both `arms`."""

    spec: EngineSpec
    cases: Sequence[Case]
    index: int
    device: Device
    folder: Path
    arms: tuple[Arm, Arm]
    must_differ: bool = False
    """Whether arms that are the same to the engine are a mistake, which is told in place of a measurement."""

    def spec_of(self, arm: Arm) -> EngineSpec:
        """The spec with the arm's own arguments."""
        return self.spec.with_arguments(arm.arguments)

    def launch(self, arm: Arm, spec: EngineSpec | None = None) -> Launch:
        """The launch of one arm, of its spec or of `spec`, which is made from it."""
        return Launch(
            spec=spec or self.spec_of(arm),
            cases=self.cases,
            index=self.index,
            device=self.device,
            folder=self.folder / arm.name,
            environment=arm.environment,
            interpreter=arm.interpreter,
            arm=arm.name,
        )


def run_pair(pair: Pair, terms: Terms, tell: Callable[[str], None] = lambda text: None) -> PairRecord:
    """Make the pair and return its record. A failure is written into it.

    `terms` are those of a plain launch. Arms that live at once are given more rounds, which costs less than a launch.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic()
    mode: Literal["live", "alternate"] = "alternate"
    if (sameness := _sameness(pair)) is not None:
        records = [unmade_record(pair.launch(arm), sameness) for arm in pair.arms]
    elif (both := _live_launches(pair)) is not None:
        mode, records = "live", run_together(both, _live_terms(terms), tell)
    else:
        records = _run_alternately(pair, terms, tell)
    if (sameness := _sameness(pair, records)) is not None:
        for record in records:
            record.cases, record.error = {}, sameness
    first, second = records
    return PairRecord(
        launch_name=pair.spec.launch_name,
        index=pair.index,
        started=started,
        seconds=time.monotonic() - clock,
        mode=mode,
        arms=records,
        log_ratios={
            case.id: _log_ratios(case, first.cases.get(case.id), second.cases.get(case.id), mode) for case in pair.cases
        },
    )


def _sameness(pair: Pair, records: Sequence[LaunchRecord] = ()) -> str | None:
    """In what the arms are the same to the engine though they must differ; None where they differ.

    Once there are `records`, variables count only where the engine reads them.
    """
    first, second = pair.arms
    if not pair.must_differ or first.interpreter != second.interpreter:
        return None
    if pair.spec_of(first).engine_arguments != pair.spec_of(second).engine_arguments:
        return None
    names = {*first.environment, *second.environment}
    differing = sorted(name for name in names if first.environment.get(name) != second.environment.get(name))
    if not differing:
        return "arm B does not differ: its interpreter, variables and engine arguments are arm A's"
    facts = [record.facts for record in records if record.facts is not None]
    if not facts or not all(any(name in one.unknown_variables for one in facts) for name in differing):
        return None
    versions = facts[0].versions
    engine = f"{pair.spec.engine.name} {versions.get(pair.spec.engine.name, '')}".strip()
    return f"arm B does not differ: {engine} does not read {', '.join(differing)}; is there an engine argument for it?"


def _live_launches(pair: Pair) -> list[Launch] | None:
    """The launches of both arms as they live at once on the device; None where it does not hold both."""
    launches = []
    for arm in pair.arms:
        spec = pair.spec_of(arm)
        beside = spec.engine.beside_another(spec)
        if beside is None:
            return None
        launches.append(pair.launch(arm, beside))
    return launches


def _live_terms(terms: Terms) -> Terms:
    return replace(
        terms,
        least_rounds=max(LIVE_ROUNDS, terms.least_rounds),
        least_seconds=max(LIVE_SECONDS, terms.least_seconds),
    )


def _run_alternately(pair: Pair, terms: Terms, tell: Callable[[str], None]) -> list[LaunchRecord]:
    order = pair.arms if pair.index % 2 else pair.arms[::-1]
    records = {arm.name: run_launch(pair.launch(arm), terms, tell) for arm in order}
    return [records[arm.name] for arm in pair.arms]


def _log_ratios(
    case: Case, first: CaseRecord | None, second: CaseRecord | None, mode: Literal["live", "alternate"]
) -> dict[str, float]:
    """log(B / A) of each metric: live, the median over the rounds; else of the launches' values."""
    if first is None or second is None or first.error or second.error:
        return {}

    def log_ratio(numerator: Value, denominator: Value) -> float:
        return math.log(float(numerator) / float(denominator))

    ratios = {}
    for metric in case.procedure.metrics_of(case):
        name = metric.name
        if metric.kind is Kind.EXACT or name not in first.values or name not in second.values:
            continue
        if not all(seen.get(name) for seen in (*first.iterations, *second.iterations)):
            continue  # where an iteration had nothing to count, such as no request in time, there is no rate to compare
        if mode == "live":
            rounds = list(zip(first.iterations, second.iterations))[_unsettled_rounds(case, first, second) :]
            ratios[name] = median(log_ratio(b[name], a[name]) for a, b in rounds)
        else:
            ratios[name] = log_ratio(second.values[name], first.values[name])
    return ratios


def _unsettled_rounds(case: Case, first: CaseRecord, second: CaseRecord) -> int:
    """How many leading rounds an arm still needed to warm up, beyond the workload's own warm-up iterations."""
    pace = case.procedure.pace
    if pace is None:
        return 0
    arms = ([float(iteration[pace]) for iteration in record.iterations] for record in (first, second))
    return max(warm_up(samples).iterations for samples in arms)
