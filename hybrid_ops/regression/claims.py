"""Whether what is claimed holds on this machine: reported from the run's ratios, true or not.

A claim is a bound on a ratio. It holds where the ratio's confidence interval lies wholly within the
bound, does not hold where it lies wholly outside, and is undecided between and, as every verdict on noise is, after one
launch. It never fails a test: that is for the ratio's baseline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import stdev

from hybrid_ops.measure.claim import Claim
from hybrid_ops.measure.metrics import Kind
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.regression.cells import Cell, Launches, observe
from hybrid_ops.regression.judge import Prior, Settings
from hybrid_ops.regression.statistics import Noise, combined_noise, look_level, mean, pooled_noise, quantile

MEDIAN_VARIANCE = math.pi / 2
"""The variance of a median over that of a mean of as many values, for the normal distribution."""


class Outcome(StrEnum):
    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    UNDECIDED = "undecided"
    """The noise hides it."""
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class ClaimResult:
    """One claim at one input length, as it is written into `results.json`."""

    cell: str
    case: str
    base: str
    claim: str
    metric: str
    bound: str
    prompt_tokens: int
    outcome: Outcome
    ratio: float | None
    """Geometric mean of the launches' ratios."""
    interval: tuple[float, float] | None
    """Each end errs in at most 5 % of runs, over all looks; for deterministic figures the ratio itself."""
    launches: list[float]
    reference_kernels: list[str]
    """Operations of either side that ran on the suite's reference kernels instead of the engine's own."""
    reason: str | None = None
    """Why it was not measured."""


def judge_claims(cells: Sequence[Cell], launches: Launches, settings: Settings) -> list[ClaimResult]:
    """What the launches say of each claim that one of `cells` stands for, claims in their order."""
    procedures = dict.fromkeys(cell.case.procedure for cell in cells)
    return [
        _judge(claim, cell, launches, settings)
        for procedure in procedures
        for claim in procedure.claims
        for cell in cells
        if cell.metric.name == claim.metric
        and cell.case.procedure is procedure
        and procedure.is_claimed(claim, cell.case)
    ]


def _outcome(claim: Claim, low: float, high: float) -> Outcome:
    """What an interval of the ratio says of the claim."""
    if claim.least is not None:
        within, outside = low > claim.least, high <= claim.least
    else:
        assert claim.most is not None
        within, outside = high < claim.most, low >= claim.most
    return Outcome.HOLDS if within else Outcome.DOES_NOT_HOLD if outside else Outcome.UNDECIDED


def _judge(claim: Claim, cell: Cell, launches: Launches, settings: Settings) -> ClaimResult:
    seen = observe(cell, launches)
    values = [float(value) for value in seen.values]
    ratio = interval = None
    outcome, reason = Outcome.NOT_MEASURED, seen.error or seen.expected_failure or "; ".join(seen.invalid) or None
    if values:
        logs = [math.log(value) for value in values]
        half = _half_width(cell, logs, launches, settings)
        ratio = math.exp(mean(logs))
        interval = (ratio * math.exp(-half), ratio * math.exp(half))
        few = half > 0 and len(values) < settings.minimum_launches
        outcome = Outcome.UNDECIDED if few else _outcome(claim, *interval)
    base, prompt_tokens = cell.case.procedure.claim_place(cell.case)
    return ClaimResult(
        cell=cell.id,
        case=cell.case.id,
        base=base,
        claim=claim.text,
        metric=claim.metric,
        bound=claim.bound,
        prompt_tokens=prompt_tokens,
        outcome=outcome,
        ratio=ratio,
        interval=interval,
        launches=values,
        reference_kernels=list(seen.reference_kernels),
        reason=reason,
    )


def _half_width(cell: Cell, logs: Sequence[float], launches: Launches, settings: Settings) -> float:
    """Half the interval of the mean log-ratio; zero for what is deterministic.

    The noise of a launch is that between the run's launches together with the platform's prior, as the judge has it,
    or what the iterations within the launches show, whichever is larger: few launches that happen to agree prove
    little. Launches are added until the claims are decided, so the error is shared over all looks.
    """
    if cell.metric.kind is Kind.EXACT:
        return 0.0
    measured = cell.metric.of or cell.metric.name
    prior: Prior = settings.priors[Kind.RATIO]
    between = pooled_noise([logs], Noise(prior.launch, prior.degrees))
    within = [
        noise
        for case in cell.cases
        for record in launches.get(case.spec.launch_name, ())
        if (noise := _median_noise(record, case.id, measured)) is not None
    ]
    noise = between
    if within:
        inner = combined_noise([(1 / len(logs), part) for part in within])
        noise = max(between, inner, key=lambda candidate: candidate.deviation)
    level = look_level(settings.interval_error, settings.minimum_launches, settings.most_launches(len(logs)))
    return quantile(level, noise.degrees) * noise.deviation / math.sqrt(len(logs))


def _median_noise(record: LaunchRecord, case: str, metric: str) -> Noise | None:
    """The standard error of the log median of a launch's iterations; None without at least two."""
    if record.violations or case not in record.cases:
        return None
    values = [math.log(float(iteration[metric])) for iteration in record.cases[case].iterations if metric in iteration]
    if len(values) < 2:
        return None
    return Noise(stdev(values) * math.sqrt(MEDIAN_VARIANCE / len(values)), len(values) - 1)
