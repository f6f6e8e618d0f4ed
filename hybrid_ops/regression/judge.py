"""The judge: from the launches of each cell to its verdict. No I/O; `docs/judging.md` explains it with formulas.

A launch (one fresh engine process) or, for A/B, a launch pair is the unit of replication. Everything is decided on
the logarithm of the ratio of the current value to the baseline, so the unit of a metric is of no importance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.statistics import (
    Noise,
    combined_noise,
    false_discovery_threshold,
    fitted_prior,
    look_level,
    mean,
    noise_of,
    pooled_noise,
    quantile,
    rank_sum_tail,
    signed_rank_tail,
    upper_tail,
)
from hybrid_ops.regression.verdicts import Verdict

Value = float | int | str | None


@dataclass(frozen=True)
class Prior:
    """What is believed about the noise of a kind of metric before a cell's own launches are seen.

    All are standard deviations of log values (0.01 is 1 %).
    """

    launch: float
    """Between launches of one session."""
    session: float
    """Between sessions (hours, days) on one machine; no number of launches in a session reduces it. Of a ratio between
    two engines, whose baseline is every machine's: between machines too."""
    pair: float
    """Between log-ratios of live launch pairs (A/B)."""
    degrees: float = 3.0
    """Degrees of freedom: how many launches the belief about `launch` and `pair` is worth."""
    session_degrees: float = 30.0
    """Degrees of freedom of `session`: no run can measure it, so it is a stated allowance rather than a guess."""


PRIORS: Mapping[str, Mapping[Kind, Prior]] = {
    "cpu": {
        Kind.ABSOLUTE: Prior(launch=0.04, session=0.02, pair=0.02),
        Kind.RATIO: Prior(launch=0.10, session=0.12, pair=0.02),
    },
    "cuda": {
        Kind.ABSOLUTE: Prior(launch=0.01, session=0.003, pair=0.01),
        Kind.RATIO: Prior(launch=0.015, session=0.05, pair=0.005),
    },
}
"""By platform; another one, such as a running server's, has the CPU's, which are measured on a shared two-core machine
(`docs/judging.md`)."""


TOLERANCE_DEVIATIONS = 2.5
"""How many standard deviations of an unchanged engine's log-ratio an update's tolerance leaves room for."""
TOLERANCE_STEPS = 1000
"""An update's tolerances are rounded up to a whole one of so many parts of 1."""


@dataclass(frozen=True)
class Settings:
    """How much error is allowed and how many launches may be spent."""

    false_discovery_rate: float = 0.01
    """The expected share of unchanged cells among those called slower in a run (and, apart, among those called faster),
    whenever one stops."""
    interval_error: float = 0.05
    """How often each end of a cell's interval may lie on the wrong side of the truth, over all looks."""
    miss_rate: float = 0.05
    """How often a cell may pass, over all looks, whose true change is twice the tolerance."""
    power: float = 0.95
    """How surely the minimum detectable effect is detected."""
    minimum_launches: int = 2
    """No cell is called slower or faster from fewer launches."""
    maximum_launches: int = 12
    """The looks over which the error is spent; launches (or launch pairs) beyond it are judged as its last look."""
    recurrence_level: float = 0.05
    """The exact rank test's level that slower and faster must also reach, whatever the noise's distribution."""
    priors: Mapping[Kind, Prior] = field(default_factory=lambda: PRIORS["cuda"])
    most_fitted_degrees: float = 8.0
    """How many degrees of freedom a prior fitted to the run's own cells may be worth."""

    def __post_init__(self) -> None:
        """Raises ValueError for an error rate that is not between 0 and 1 or fewer than one launch."""
        for name in ("false_discovery_rate", "interval_error", "miss_rate", "power", "recurrence_level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not be {getattr(self, name)}")
        if self.minimum_launches < 2 or self.maximum_launches < 1:
            raise ValueError("a verdict needs at least one launch, and slower and faster at least two")

    def most_launches(self, launches: int) -> int:
        """The last look over which the error is shared, when this many launches have been made."""
        return max(self.maximum_launches, self.minimum_launches, launches)

    @classmethod
    def for_platform(cls, platform: str) -> Settings:
        """The settings with the platform's (`cpu`, `cuda`) priors, or the widest for another one."""
        return cls(priors=PRIORS.get(platform, PRIORS["cpu"]))


@dataclass(frozen=True)
class Evidence:
    """All that is known of one cell. Values are per launch, in launch order, in the metric's unit."""

    kind: Kind
    direction: Direction
    current: Sequence[Value] = ()
    baseline: Sequence[Value] = ()
    tolerance: float = 0.0
    """Relative: 0.05 allows 5 %. Its log, log(1 + tolerance), is used on both sides of the baseline."""
    pairs: Sequence[float] | None = None
    """A/B: log(current arm / baseline arm) of each launch pair; `baseline` and `current` are then only shown."""
    launch_noise: Noise | None = None
    """The noise measured by A/A on this machine, in place of the kind's prior."""
    session_noise: Noise | None = None
    """The noise between sessions measured on this machine, in place of the kind's prior."""
    baseline_sessions: int = 1
    """In how many sessions the baseline's launches were made."""


@dataclass(frozen=True)
class Judgement:
    """What is concluded of one cell, and from what."""

    verdict: Verdict
    decided: bool
    """False: more launches could help."""
    reason: str
    """One sentence with the numbers."""
    baseline: Value = None
    """The geometric mean of the baseline's launches (exact metrics: the value itself)."""
    value: Value = None
    """The geometric mean of the current launches (exact metrics: the value itself)."""
    change: float | None = None
    """value / baseline - 1: the sign is the value's own, not better or worse."""
    interval: tuple[float, float] | None = None
    """The confidence interval of log(value / baseline); repeated looks are accounted for unless the verdict is pass."""
    confidence: float | None = None
    """The level of the interval, in each tail 1 - (1 - confidence) / 2."""
    p_value: float | None = None
    """Of no change for the worse, valid at whatever launch one stops; 1 as long as nothing has recurred."""
    mde: float | None = None
    """The smallest relative change for the worse that differs from none with `Settings.power`, when
    `Settings.maximum_launches` are spent."""
    noise: float | None = None
    """The standard deviation of a launch (A/B: of a pair's log-ratio) that was reckoned with."""
    launches: int = 0


@dataclass(frozen=True)
class _Estimate:
    """The log-ratio of a cell with its uncertainty; `badness` is it signed so that more is worse."""

    badness: float
    margin: float
    """The log of the tolerance."""
    error: Noise
    last_error: Noise
    """The same when the maximum of launches has been spent."""
    best_error: Noise
    """The same should the noise turn out no greater than was believed: one outlier must not end the launching."""
    noise: float
    launches: int
    recurrence_worse: float
    recurrence_better: float
    best_recurrence: float
    """The smallest p that the recurrence test can reach with the maximum of launches."""


def judge_cell(evidence: Evidence, settings: Settings, budget_left: bool = True) -> Judgement:
    """Judge one cell alone. Raises ValueError for a noisy metric without a direction or a negative tolerance."""
    return judge_run([evidence], settings, budget_left)[0]


def judge_run(cells: Sequence[Evidence], settings: Settings, budget_left: bool) -> list[Judgement]:
    """Judge all cells of a run together, in the order given.

    Call it after every launch with all cells, also the decided ones: the false-discovery rate is controlled over all of
    them. Launch again what comes back with `decided` False. Without `budget_left` a cell that is
    better passes at once instead of waiting to be recorded as faster, and the reasons say that the budget is spent.
    Raises ValueError for a noisy metric without a direction or a negative tolerance.
    """
    judgements: list[Judgement | None] = [_without_statistics(evidence) for evidence in cells]
    noisy = [index for index, judgement in enumerate(judgements) if judgement is None]
    beliefs = _launch_noise([cells[index] for index in noisy], settings)
    estimates = [_estimate(cells[index], belief, settings) for index, belief in zip(noisy, beliefs)]
    worse = [_p_value(e.badness, e.recurrence_worse, e, settings) for e in estimates]
    better = [_p_value(-e.badness, e.recurrence_better, e, settings) for e in estimates]
    worse_level = false_discovery_threshold(worse, settings.false_discovery_rate)
    better_level = false_discovery_threshold(better, settings.false_discovery_rate)
    for index, estimate, p_worse, p_better in zip(noisy, estimates, worse, better):
        changed = (p_worse <= worse_level, p_better <= better_level)
        judgements[index] = _judgement(cells[index], estimate, settings, p_worse, changed, budget_left)
    return [judgement for judgement in judgements if judgement is not None]


def minimum_detectable_effect(
    noise: Noise, session: Noise, baseline_launches: int, launches: int, settings: Settings
) -> float:
    """The smallest relative change that is told from none with `settings.power` in this many launches.

    `noise` and `session` are deviations of log values; `baseline_launches` 0 means launch pairs.
    """
    return _detectable(
        _error(noise, session, baseline_launches, launches, 1), settings.most_launches(launches), settings
    )


def _detectable(error: Noise, most: int, settings: Settings) -> float:
    level = look_level(settings.interval_error, settings.minimum_launches, most)
    return math.expm1(_half_width(level, error) + _half_width(1 - settings.power, error))


def tolerance_from_launches(values: Sequence[float], prior: Prior, least: float = 0.02) -> float:
    """The tolerance that an update of the baseline may set: no tighter than the spread between launches.

    The largest of `least`, the distance of the furthest launch from the middle, and `TOLERANCE_DEVIATIONS` standard
    deviations of a later launch's log-ratio to this baseline (noise of the launches, moderated by the prior, and of the
    sessions); relative, rounded up to a tenth of a percent. So an unchanged engine passes, mostly at its first launch.
    Raises ValueError for no values or for one that is not a measurement.
    """
    if not values or any(_refusal(value) for value in values):
        raise ValueError(f"a tolerance needs measured launches, got {list(values)}")
    logs = [math.log(value) for value in values]
    noise = pooled_noise([logs], Noise(prior.launch, prior.degrees)).deviation
    furthest = max(abs(value - mean(logs)) for value in logs)
    later = math.sqrt(noise**2 * (1 + 1 / len(logs)) + 2 * prior.session**2)
    tolerance = max(math.log1p(least), TOLERANCE_DEVIATIONS * later, furthest)
    return math.ceil(math.expm1(tolerance) * TOLERANCE_STEPS - 1e-9) / TOLERANCE_STEPS


def _refusal(value: Value) -> str | None:
    """Why a value of a noisy metric is not a measurement, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value!r} is not a number"
    if not math.isfinite(value) or value <= 0:
        return f"{value!r} is not a measurement"
    return None


def _without_statistics(evidence: Evidence) -> Judgement | None:
    """The judgement of a cell that needs no statistics: exact, refused or without a baseline; else None."""
    if evidence.kind is Kind.EXACT:
        return _exact(evidence)
    if evidence.direction is Direction.NONE:
        raise ValueError(f"a metric of kind {evidence.kind} needs a direction: only exact metrics have none")
    if evidence.tolerance < 0:
        raise ValueError(f"the tolerance {evidence.tolerance} is negative")
    if evidence.pairs is not None:
        broken = [pair for pair in evidence.pairs if not math.isfinite(pair)]
        if broken or not evidence.pairs:
            what = f"{broken[0]} is not a log-ratio" if broken else "no launch pair was measured"
            return Judgement(Verdict.FAILED_TO_RUN, True, f"Refused: {what}.", launches=len(evidence.pairs))
        return None
    if not evidence.current:
        return Judgement(Verdict.FAILED_TO_RUN, True, "No launch was measured.")
    refused = [why for value in evidence.current if (why := _refusal(value))]
    if refused:
        reason = f"Refused: {refused[0]} ({len(refused)} of {len(evidence.current)} launches)."
        return Judgement(Verdict.FAILED_TO_RUN, True, reason, launches=len(evidence.current))
    value = _geometric_mean(evidence.current)
    if not evidence.baseline:
        reason = f"Measured {value:.6g} in {len(evidence.current)} launches, but there is no baseline to compare with."
        return Judgement(Verdict.MISSING_BASELINE, True, reason, value=value, launches=len(evidence.current))
    refused = [why for value in evidence.baseline if (why := _refusal(value))]
    if refused:
        reason = f"The baseline is refused: {refused[0]} ({len(refused)} of {len(evidence.baseline)} launches)."
        return Judgement(Verdict.FAILED_TO_RUN, True, reason, value=value, launches=len(evidence.current))
    return None


def _exact(evidence: Evidence) -> Judgement:
    for name, values in (("measurement", evidence.current), ("baseline", evidence.baseline)):
        for value in values:
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                return Judgement(
                    Verdict.FAILED_TO_RUN, True, f"Refused: the {name} {value!r} is not a value.",
                    launches=len(evidence.current),
                )  # fmt: skip
    if not evidence.current:
        return Judgement(Verdict.FAILED_TO_RUN, True, "No launch was measured.")
    value, launches = evidence.current[-1], len(evidence.current)
    if not evidence.baseline:
        reason = f"Measured {value}, but there is no baseline to compare with."
        return Judgement(Verdict.MISSING_BASELINE, True, reason, value=value, launches=launches)
    baseline = evidence.baseline[0]
    change = None
    if not isinstance(value, str) and not isinstance(baseline, str) and value is not None and baseline:
        change = value / baseline - 1
    for name, values in (("launches", evidence.current), ("baseline's launches", evidence.baseline)):
        different = list(dict.fromkeys(values))
        if len(different) > 1:
            reason = f"An exact metric, but the {name} differ among themselves: {', '.join(map(str, different))}."
            return Judgement(Verdict.CHANGED, True, reason, baseline, value, change, launches=launches)
    if value == baseline:
        return Judgement(Verdict.PASS, True, f"Exactly {value}.", baseline, value, change, launches=launches)
    reason = f"{value} where the baseline has {baseline}: an exact metric must not differ."
    return Judgement(Verdict.CHANGED, True, reason, baseline, value, change, launches=launches)


def _geometric_mean(values: Sequence[Value]) -> float:
    logs = _logs(values)
    # From the first value, so that equal launches give back exactly their value.
    return float(values[0] or 0) * math.exp(mean([log - logs[0] for log in logs]))


def _logs(values: Sequence[Value]) -> list[float]:
    return [math.log(value) for value in values if isinstance(value, int | float)]


def _launch_noise(cells: Sequence[Evidence], settings: Settings) -> list[Noise]:
    """What is believed of each cell's launch noise: measured by A/A, or the prior fitted to the run's own cells."""
    groups: dict[tuple[Kind, bool], list[Noise]] = {}
    for cell in cells:
        launches = cell.pairs if cell.pairs is not None else _logs(cell.baseline)
        if len(launches) > 1:
            groups.setdefault((cell.kind, cell.pairs is not None), []).append(noise_of(launches))
    fitted = {}
    for paired in (False, True):
        for kind, prior in settings.priors.items():
            fallback = Noise(prior.pair if paired else prior.launch, prior.degrees)
            fitted[kind, paired] = fitted_prior(groups.get((kind, paired), []), fallback, settings.most_fitted_degrees)
    return [cell.launch_noise or fitted[cell.kind, cell.pairs is not None] for cell in cells]


def _error(noise: Noise, session: Noise, baseline_launches: int, launches: int, baseline_sessions: int) -> Noise:
    """The standard error of the log-ratio."""
    if not baseline_launches:
        return Noise(noise.deviation / math.sqrt(launches), noise.degrees)
    launch_part = (1 / baseline_launches + 1 / launches, noise)
    return combined_noise([launch_part, (1 + 1 / baseline_sessions, session)])


def _estimate(evidence: Evidence, belief: Noise, settings: Settings) -> _Estimate:
    prior = settings.priors[evidence.kind]
    session = evidence.session_noise or Noise(prior.session, prior.session_degrees)
    sign = _sign(evidence)
    if evidence.pairs is not None:
        before: list[float] = []
        after = [sign * pair for pair in evidence.pairs]
        badness = mean(after)
        worse, better = signed_rank_tail(after), signed_rank_tail([-value for value in after])
    else:
        before = [sign * value for value in _logs(evidence.baseline)]
        after = [sign * value for value in _logs(evidence.current)]
        badness = mean(after) - mean(before)
        worse, better = rank_sum_tail(before, after), rank_sum_tail([-v for v in before], [-v for v in after])
    noise = pooled_noise([before, after], belief)
    most = settings.most_launches(len(after))
    quiet = Noise(min(noise.deviation, belief.deviation), noise.degrees)
    return _Estimate(
        badness=badness,
        margin=math.log1p(evidence.tolerance),
        error=_error(noise, session, len(before), len(after), evidence.baseline_sessions),
        last_error=_error(noise, session, len(before), most, evidence.baseline_sessions),
        best_error=_error(quiet, session, len(before), most, evidence.baseline_sessions),
        noise=noise.deviation,
        launches=len(after),
        recurrence_worse=worse,
        recurrence_better=better,
        best_recurrence=1 / math.comb(len(before) + most, most) if before else 0.5**most,
    )


def _sign(evidence: Evidence) -> float:
    """1 where a greater value is worse, else -1."""
    return 1.0 if evidence.direction is Direction.LOWER else -1.0


def _pass_bound(margin: float, error: Noise, settings: Settings) -> float:
    """The badness below which a cell passes: near the tolerance if the error is small, far within if it is great.

    Wald's sequential probability ratio test (1945) of no change against twice the tolerance: whoever looks after every
    launch passes a cell that is twice the tolerance worse with a probability of at most `miss_rate`. The variance is
    that of Student's t, so that an error known from few launches counts for more.
    """
    if margin == 0:
        return -math.inf
    variance = error.deviation**2 * (error.degrees / (error.degrees - 2) if error.degrees > 3 else 3)
    return margin - variance * math.log(1 / settings.miss_rate) / (2 * margin)


def _p_value(distance: float, recurrence: float, estimate: _Estimate, settings: Settings) -> float:
    """The sequential p of lying this far beyond no change; 1 as long as it has not recurred.

    Multiplied by the number of looks: by the union bound it holds wherever one stops, whatever the looks' dependence.
    """
    if estimate.launches < settings.minimum_launches or recurrence > settings.recurrence_level:
        return 1.0
    if estimate.error.deviation == 0:
        return 0.0 if distance > 0 else 1.0
    looks = settings.most_launches(estimate.launches) - settings.minimum_launches + 1
    return min(1.0, looks * upper_tail(distance / estimate.error.deviation, estimate.error.degrees))


def _half_width(level: float, error: Noise) -> float:
    return quantile(level, error.degrees) * error.deviation


def _judgement(
    evidence: Evidence,
    estimate: _Estimate,
    settings: Settings,
    p_value: float,
    changed: tuple[bool, bool],
    budget_left: bool,
) -> Judgement:
    """The verdict of a noisy cell; `changed` tells whether it is among the run's discoveries, worse and better."""
    margin = estimate.margin
    most = settings.most_launches(estimate.launches)
    fail_level = look_level(settings.interval_error, settings.minimum_launches, most)
    fail_width = _half_width(fail_level, estimate.error)
    pass_bound = _pass_bound(margin, estimate.error, settings)
    # It passes already, but so surely better that further launches may record it as faster.
    could_recur = estimate.best_recurrence <= settings.recurrence_level
    better = -estimate.badness - fail_width > margin
    promising = better and could_recur and budget_left and estimate.launches < settings.maximum_launches

    level, width = fail_level, fail_width
    decided = True
    if changed[0] and estimate.badness - fail_width > margin:
        verdict = Verdict.SLOWER
    elif changed[1] and better:
        verdict = Verdict.FASTER
    elif estimate.badness < pass_bound and not promising:
        verdict = Verdict.PASS
        level, width = settings.miss_rate, _half_width(settings.miss_rate, estimate.error)
    else:
        verdict = Verdict.INCONCLUSIVE
        last_fail = _half_width(fail_level, estimate.best_error)
        # Estimates of nested samples differ with the difference of their variances.
        movement = 2 * math.sqrt(max(0.0, estimate.error.deviation**2 - estimate.best_error.deviation**2))
        could_pass = estimate.badness - movement < _pass_bound(margin, estimate.best_error, settings)
        could_fail = could_recur and estimate.badness + movement - last_fail > margin
        decided = estimate.launches >= settings.maximum_launches or not (could_pass or could_fail)

    log_ratio = _sign(evidence) * estimate.badness
    mde = _detectable(estimate.last_error, most, settings)
    change, interval = math.expm1(log_ratio), (log_ratio - width, log_ratio + width)
    unit = "launch pair" if evidence.pairs is not None else "launch"
    plural = "" if estimate.launches == 1 else "s" if evidence.pairs is not None else "es"
    tolerance = f"the tolerance of {evidence.tolerance:.1%}"
    reason = (
        f"{change:+.1%} ({'worse' if estimate.badness > 0 else 'better'}) after {estimate.launches} {unit}{plural}, "
        f"confidence interval {math.expm1(interval[0]):+.1%} to {math.expm1(interval[1]):+.1%}"
    )
    if verdict is Verdict.SLOWER:
        reason += f", wholly worse than {tolerance} (p = {p_value:.2g})"
    elif verdict is Verdict.FASTER:
        reason += f", wholly better than {tolerance}: record it"
    elif verdict is Verdict.PASS:
        reason += f", within {tolerance}: twice as much is excluded"
    elif not decided and budget_left:
        reason += f", still on both sides of {tolerance}: launch again"
    elif not decided or estimate.launches >= settings.maximum_launches:
        reason += f", still on both sides of {tolerance}, and the budget is spent"
    elif estimate.best_recurrence > settings.recurrence_level:
        reason += f": the baseline has too few launches ({len(evidence.baseline)}) to show a difference from it"
    else:
        reason += f": the noise is too great for {tolerance}, and more launches would not help"
    if mde > evidence.tolerance:
        reason += f"; the tolerance is below the minimum detectable effect of {mde:.1%}"
    return Judgement(
        verdict=verdict,
        decided=decided,
        reason=reason + ".",
        baseline=_geometric_mean(evidence.baseline) if evidence.baseline else None,
        value=_geometric_mean(evidence.current) if evidence.current else None,
        change=change,
        interval=interval,
        confidence=1 - 2 * level,
        p_value=p_value,
        mde=mde,
        noise=estimate.noise,
        launches=estimate.launches,
    )
