"""Cells: one case and one metric, and what the launches of a run say of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Kind, Metric, Scope
from hybrid_ops.measure.records import LaunchRecord, PairRecord, matches_expected
from hybrid_ops.measure.values import Value, bound_name
from hybrid_ops.regression.baselines import Baselines, FoundBaseline
from hybrid_ops.regression.comparable import compared_with
from hybrid_ops.regression.guard import doubt, guarded
from hybrid_ops.regression.judge import Evidence, Judgement, Settings, by_session, judge_run
from hybrid_ops.regression.learnt import LearntNoise
from hybrid_ops.regression.statistics import Noise
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.regression.waivers import Waiver, waived

Launches = Mapping[str, Sequence[LaunchRecord]]
"""The finished launches of a run, by the name that the launches of their spec have."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One case and one metric: one testcase, one line of a table."""

    case: Case
    metric: Metric
    reference: Case | None = None
    """For ratio metrics: the case that the value is divided by."""
    guard: Case | None = None
    """The case of the same launches that says whether the engine still computes what it should."""

    @property
    def id(self) -> str:
        return f"{self.case.id}-{self.metric.name}"

    @property
    def cases(self) -> Sequence[Case]:
        """The cases that it needs: its own, the one that its value is divided by, and its guard."""
        return tuple(case for case in (self.case, self.reference, self.guard) if case is not None)

    @property
    def definition(self) -> str:
        """Hash of what defines the measurement, on every machine where its value holds on every machine."""
        return self.case.definition(portable=self.metric.scope is Scope.ANY)

    def baseline(self, baselines: Baselines) -> FoundBaseline | None:
        """The recorded value that holds where it is measured, or None."""
        return baselines.find(self.case.id, self.metric.name, self.case.spec.device_count)


@dataclass(frozen=True)
class Observation:
    """The values of a cell, one a launch; or why there are none; or that the known failure showed."""

    values: list[Value]
    error: str | None = None
    log: str | None = None
    expected_failure: str | None = None
    invalid: list[str] = field(default_factory=list)
    """Why launches were left out, when none was made on a fit machine."""
    reference_kernels: tuple[str, ...] = ()
    """The operations that the engine ran on the suite's reference kernels instead of its own."""
    bounds: tuple[Value, ...] = ()
    """What each value is held against, of a bounded metric."""


def observe(cell: Cell, launches: Launches) -> Observation:
    """Read a cell's own numbers out of the launches of its spec (and of its reference's)."""
    own = _values(cell.case, cell.metric, launches)
    if cell.reference is None or own.error or own.expected_failure:
        return own
    reference = _values(cell.reference, cell.metric, launches)
    if reference.error:
        return Observation([], reference_failed(cell.reference.id, reference.error), reference.log)
    if own.invalid or reference.invalid:
        return replace(own, values=[], invalid=[*own.invalid, *reference.invalid])
    ratios: list[Value] = [float(a) / float(b) for a, b in zip(own.values, reference.values)]
    kernels = tuple(sorted({*own.reference_kernels, *reference.reference_kernels}))
    return Observation(ratios, log=own.log, reference_kernels=kernels)


def reference_failed(case: str, error: str) -> str:
    """Why a ratio has no value whose reference, of that case, failed."""
    return f"the reference {case} failed: {error}"


def _values(case: Case, metric: Metric, launches: Launches) -> Observation:
    name = metric.of or metric.name  # a ratio's parts are recorded under their own name
    values: list[Value] = []
    bounds: list[Value] = []
    invalid: list[str] = []
    kernels: set[str] = set()
    log = None
    for record in launches.get(case.spec.launch_name, ()):
        seen = record.cases.get(case.id)
        error = record.error or (seen.error if seen else None)
        if error is not None:
            expected = case.spec.expected_failure()
            if expected is not None and matches_expected(expected.matches, error):
                return Observation([], None, record.log, expected.reason)
            return Observation([], error, record.log)
        if seen is None:
            continue  # this launch was made for other cases
        if name not in seen.values:
            reason = seen.absent.get(name, f"the engine gave no {name}")
            known = case.procedure.known_failure(case, metric)
            if known is not None and matches_expected(known.matches, reason):
                return Observation([], None, record.log, known.reason)
            return Observation([], reason, record.log)
        log = record.log
        kernels.update(record.reference_kernels)
        if record.violations and metric.kind is not Kind.EXACT:
            invalid += [violation for violation in record.violations if violation not in invalid]
        else:
            values.append(seen.values[name])
            if metric.is_bounded:
                bounds.append(seen.values[bound_name(name)])
    if not values and not invalid:
        return Observation([], "no launch measured it")
    return Observation(
        values,
        log=log,
        invalid=[] if values else invalid,
        reference_kernels=tuple(sorted(kernels)),
        bounds=tuple(bounds),
    )


@dataclass(frozen=True)
class CellResult:
    """A cell with its verdict, as it is written into `results.json`."""

    cell: str
    case: str
    metric: str
    unit: str
    kind: str
    direction: str
    verdict: Verdict
    reason: str
    decided: bool
    value: Value | None
    baseline: Value | None
    tolerance: float | None
    change: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    mde: float | None
    launches: list[Value]
    baseline_launches: list[Value]
    baseline_file: str | None
    definition: str
    log: str | None
    compared_with: str = "baseline"
    """What `baseline` is: the recorded baseline, or `arm a` of an A/B comparison, whose arm B `value` then is."""
    baseline_sessions: list[int] = field(default_factory=list)
    """How many of the baseline's launches each session made; empty where all are of one session."""
    log_ratios: list[float] = field(default_factory=list)
    """log(arm B / arm A) of each launch pair, in an A/B comparison."""
    noise: float | None = None
    """Standard deviation of a launch's log value (A/B: of a pair's log-ratio) that the judge reckoned with."""
    recorded: bool = False
    """Whether this run's update made the value the new baseline: then the verdict on the old one fails nothing."""
    reference_kernels: list[str] = field(default_factory=list)
    """The operations that the engine ran on the suite's reference kernels. Times are then shown, but not judged."""
    bound: Value | None = None
    """What the value is held against, of a metric that needs no baseline."""
    rounding: float = 0.0
    """How far two values of an exact metric may lie apart and still be the same, relative to the greater."""
    engine: str | None = None
    """The name of the launches that measured it; None in results of releases that did not keep it."""

    @property
    def is_ungated(self) -> bool:
        """Whether the value says nothing of the engine's own kernels, and so has no baseline and no judgement."""
        return bool(self.reference_kernels) and self.kind != Kind.EXACT.value


def judge_cells(
    cells: Sequence[Cell],
    launches: Launches,
    baselines: Baselines,
    settings: Settings,
    budget_left: bool,
    learnt: LearntNoise,
    recording: bool = False,
) -> list[CellResult]:
    """The verdict of every cell, from all launches so far. `learnt` is what earlier runs have shown of the noise;
    `recording`: the launches are to become the baselines."""
    observations = [observe(cell, launches) for cell in cells]
    compared = []
    for index, (cell, seen) in enumerate(zip(cells, observations)):
        found = None if _ungated(cell, seen) else cell.baseline(baselines)
        # What is exact or a ratio does not depend on how the device is set.
        absolute = cell.metric.scope is Scope.DEVICE_CLASS and cell.metric.kind is not Kind.EXACT
        records = [record for record in launches.get(cell.case.spec.launch_name, ()) if cell.case.id in record.cases]
        compared.append(compared_with(found, cell.definition, records if absolute else (), recording))
        if compared[-1].unfit and seen.values:
            observations[index] = replace(seen, values=[], invalid=list(compared[-1].unfit))
    judged = judge_run(
        [
            _evidence(cell, seen, one.baseline, learnt, settings)
            for cell, seen, one in zip(cells, observations, compared)
        ],
        settings,
        budget_left,
    )
    today = datetime.now(UTC).date()
    results = []
    for cell, seen, one, judgement in zip(cells, observations, compared, judged):
        believed = guarded(judgement, doubt(cell.guard, launches.get(cell.case.spec.launch_name, ())))
        results.append(_result(cell, seen, one.baseline, one.stale, waived(believed, _waiver(one.baseline), today)))
    return results


def _waiver(known: FoundBaseline | None) -> Waiver | None:
    if known is None or known.cell.waiver is None:
        return None
    return Waiver(**known.cell.waiver.model_dump())


def ratios_of(cell: Cell, pairs: Mapping[str, Sequence[PairRecord]]) -> list[float]:
    """log(arm B / arm A) of a cell in each of its launch pairs on a fit machine."""
    return [
        pair.log_ratios[cell.case.id][cell.metric.name]
        for pair in pairs.get(cell.case.spec.launch_name, ())
        if not pair.unfit and cell.metric.name in pair.log_ratios.get(cell.case.id, {})
    ]


def judge_pairs(
    cells: Sequence[Cell],
    pairs: Mapping[str, Sequence[PairRecord]],
    tolerance: float,
    settings: Settings,
    noise: Mapping[str, Noise],
    budget_left: bool,
) -> list[CellResult]:
    """The verdict of every cell of an A/B comparison: arm B against arm A, from all launch pairs so far.

    `noise` is what A/A comparisons have shown of the cells on this machine.
    """
    arms = [{name: [pair.arms[arm] for pair in group] for name, group in pairs.items()} for arm in (0, 1)]
    observed = [(observe(cell, arms[0]), observe(cell, arms[1])) for cell in cells]
    evidence = []
    for cell, (first, second) in zip(cells, observed):
        exact = cell.metric.kind is Kind.EXACT
        evidence.append(
            Evidence(
                cell.metric.kind,
                cell.metric.direction,
                tuple(second.values),
                tuple(first.values),
                0.0 if exact else tolerance,
                pairs=None if exact else tuple(ratios_of(cell, pairs)),
                launch_noise=noise.get(cell.id),
                bounds=second.bounds,
                is_tokens=cell.metric.is_tokens,
                rounding=cell.metric.rounding,
            )
        )
    results = []
    for cell, (first, second), judged in zip(cells, observed, judge_run(evidence, settings, budget_left)):
        judgement = guarded(judged, doubt(cell.guard, arms[1].get(cell.case.spec.launch_name, ())))
        seen = second if first.error is None else first
        result = replace(_result(cell, seen, None, None, judgement), log_ratios=ratios_of(cell, pairs))
        tolerance_shown = None if cell.metric.kind is Kind.EXACT else tolerance
        results.append(
            replace(
                result,
                compared_with="arm a",
                baseline=first.values[-1] if cell.metric.is_bounded and first.values else judgement.baseline,
                tolerance=tolerance_shown,
                baseline_launches=list(first.values),
            )
        )
    return results


def _ungated(cell: Cell, seen: Observation) -> bool:
    """Whether a cell is a time, a rate or a memory peak that says nothing of the engine's own kernels.

    What is exact counts in full, whichever kernel computed it.
    """
    return bool(seen.reference_kernels) and cell.metric.kind is not Kind.EXACT


def _evidence(
    cell: Cell, seen: Observation, known: FoundBaseline | None, learnt: LearntNoise, settings: Settings
) -> Evidence:
    metric = cell.metric
    evidence = Evidence(
        metric.kind,
        metric.direction,
        tuple(seen.values),
        bounds=seen.bounds,
        is_tokens=metric.is_tokens,
        rounding=metric.rounding,
    )
    if known is None:
        return evidence
    if metric.kind is Kind.EXACT:
        return replace(evidence, baseline=(known.cell.value,))
    launches, sessions = known.cell.launch_values(), known.cell.sessions
    noise = learnt.of(
        cell.id, cell.definition, metric.kind, by_session(launches, sessions), settings.priors[metric.kind]
    )
    return replace(
        evidence,
        baseline=tuple(launches),
        tolerance=known.cell.tolerance or 0.0,
        launch_noise=noise.launch,
        session_noise=noise.session,
        session_sizes=tuple(sessions),
    )


def _result(
    cell: Cell, seen: Observation, known: FoundBaseline | None, stale: str | None, judgement: Judgement
) -> CellResult:
    verdict, reason, decided = judgement.verdict, judgement.reason, judgement.decided
    expected = cell.case.spec.expected_failure()
    if seen.expected_failure is not None:
        verdict, reason, decided = Verdict.EXPECTED_FAILURE, seen.expected_failure, True
    elif seen.error is not None:
        verdict, reason, decided = Verdict.FAILED_TO_RUN, seen.error, True
    elif seen.invalid:
        verdict, decided = Verdict.INVALID_ENVIRONMENT, True
        reason = "The machine was not fit to measure: " + "; ".join(seen.invalid) + "."
    elif expected is not None and seen.values and cell.case.procedure.runs_the_model:
        verdict, decided = Verdict.UNEXPECTED_SUCCESS, True
        reason = f"It works now. Remove the expected failure from {cell.case.spec.entry.source}: {expected.reason}"
    elif seen.values and (known_failure := cell.case.procedure.known_failure(cell.case, cell.metric)) is not None:
        verdict, decided = Verdict.UNEXPECTED_SUCCESS, True
        reason = f"It works now. Remove the known failure of {cell.metric.name}: {known_failure.reason}"
    elif verdict is Verdict.MISSING_BASELINE and _ungated(cell, seen):
        verdict = Verdict.PASS
        reason = f"Not judged: measured on reference kernels ({', '.join(seen.reference_kernels)})."
    elif stale is not None and verdict is Verdict.MISSING_BASELINE:
        reason = stale
    return CellResult(
        cell=cell.id,
        case=cell.case.id,
        metric=cell.metric.name,
        unit=cell.metric.unit,
        kind=cell.metric.kind.value,
        direction=cell.metric.direction.value,
        verdict=verdict,
        reason=reason,
        decided=decided,
        value=judgement.value,
        baseline=known.cell.value if known is not None else None,
        tolerance=known.cell.tolerance if known is not None else None,
        change=judgement.change,
        interval=judgement.interval,
        p_value=judgement.p_value,
        mde=judgement.mde,
        launches=list(seen.values),
        baseline_launches=list(known.cell.launches) if known is not None else [],
        baseline_sessions=list(known.cell.sessions) if known is not None else [],
        baseline_file=str(known.path) if known is not None else None,
        definition=cell.definition,
        log=seen.log,
        noise=judgement.noise,
        reference_kernels=list(seen.reference_kernels),
        bound=judgement.baseline if cell.metric.is_bounded else None,
        rounding=cell.metric.rounding,
        engine=cell.case.spec.launch_name,
    )
