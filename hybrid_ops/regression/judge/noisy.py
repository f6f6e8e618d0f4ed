"""Decisions on noisy cells: where the confidence interval of a cell's change lies beside its tolerance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hybrid_ops.regression.judge.decision import Decision, Ground
from hybrid_ops.regression.judge.estimate import Estimate, half_width
from hybrid_ops.regression.judge.evidence import Evidence, geometric_mean
from hybrid_ops.regression.judge.settings import Settings
from hybrid_ops.regression.judge.tolerance import detectable
from hybrid_ops.regression.statistics import Noise, look_level, upper_tail


@dataclass(frozen=True)
class Discovery:
    """Whether a cell is among the run's discoveries, on either side."""

    worse: bool
    better: bool
    p_value: float
    """The sequential p of no change for the worse."""


def sequential_p_value(distance: float, recurrence: float, estimate: Estimate, settings: Settings) -> float:
    """The p of lying this far (as a log-ratio) beyond no change, at any look; 1 as long as it has not recurred.

    Multiplied by the number of looks: by the union bound it holds wherever one stops, whatever the looks' dependence.
    """
    if estimate.launches < settings.minimum_launches or recurrence > settings.recurrence_level:
        return 1.0
    if estimate.error.deviation == 0:
        return 0.0 if distance > 0 else 1.0
    looks = settings.most_launches(estimate.launches) - settings.minimum_launches + 1
    return min(1.0, looks * upper_tail(distance / estimate.error.deviation, estimate.error.degrees))


def decide(
    evidence: Evidence, estimate: Estimate, discovery: Discovery, settings: Settings, budget_left: bool
) -> Decision:
    """The decision on a noisy cell from its estimate."""
    most = settings.most_launches(estimate.launches)
    fail_level = look_level(settings.interval_error, settings.minimum_launches, most)
    ground, decided = _ground(estimate, discovery, settings, fail_level, budget_left)
    level = settings.miss_rate if ground is Ground.WITHIN_TOLERANCE else fail_level
    width = half_width(level, estimate.error)
    log_ratio = evidence.sign * estimate.badness
    return Decision(
        verdict=ground.verdict,
        ground=ground,
        decided=decided,
        baseline=geometric_mean(evidence.baseline),
        value=geometric_mean(evidence.current),
        change=math.expm1(log_ratio),
        interval=(log_ratio - width, log_ratio + width),
        confidence=1 - 2 * level,
        p_value=discovery.p_value,
        mde=detectable(estimate.last_error, most, settings),
        noise=estimate.noise,
        launches=estimate.launches,
    )


def _ground(
    estimate: Estimate, discovery: Discovery, settings: Settings, fail_level: float, budget_left: bool
) -> tuple[Ground, bool]:
    """The ground of the verdict, and whether no further launch could change it."""
    width = half_width(fail_level, estimate.error)
    spent = estimate.launches >= settings.maximum_launches
    better = -estimate.badness - width > estimate.margin
    if discovery.worse and estimate.badness - width > estimate.margin:
        return Ground.BEYOND_TOLERANCE, True
    if discovery.better and better:
        return Ground.BETTER_THAN_TOLERANCE, True
    # It passes already, but so surely better that further launches may record it as faster.
    promising = better and estimate.can_recur(settings) and budget_left and not spent
    if estimate.badness < _pass_bound(estimate.margin, estimate.error, settings) and not promising:
        return Ground.WITHIN_TOLERANCE, True
    if not spent and _launches_could_decide(estimate, settings, fail_level):
        return (Ground.LAUNCH_AGAIN if budget_left else Ground.BUDGET_SPENT), False
    if spent:
        return Ground.BUDGET_SPENT, True
    return (Ground.NOISE_TOO_GREAT if estimate.can_recur(settings) else Ground.BASELINE_TOO_SMALL), True


def _launches_could_decide(estimate: Estimate, settings: Settings, fail_level: float) -> bool:
    """Whether the launches that are left could bring the cell to pass or to fail."""
    last_width = half_width(fail_level, estimate.best_error)
    # Estimates of nested samples differ with the difference of their variances.
    movement = 2 * math.sqrt(max(0.0, estimate.error.deviation**2 - estimate.best_error.deviation**2))
    could_pass = estimate.badness - movement < _pass_bound(estimate.margin, estimate.best_error, settings)
    could_fail = estimate.can_recur(settings) and estimate.badness + movement - last_width > estimate.margin
    return could_pass or could_fail


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
