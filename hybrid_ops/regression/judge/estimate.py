"""How large a cell's change is, and how surely that is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.judge.evidence import Evidence, by_session, logs
from hybrid_ops.regression.judge.settings import Settings
from hybrid_ops.regression.statistics import (
    Noise,
    combined_noise,
    fitted_prior,
    mean,
    noise_within,
    pooled_noise,
    quantile,
    rank_sum_tail,
    signed_rank_tail,
)


@dataclass(frozen=True)
class Estimate:
    """The log-ratio of a cell with its uncertainty."""

    badness: float
    """The log-ratio, signed so that more is worse."""
    margin: float
    """The log of the tolerance."""
    error: Noise
    """The standard error of the log-ratio after this look."""
    last_error: Noise
    """The same when the maximum of launches has been spent."""
    best_error: Noise
    """The same should the noise turn out no greater than was believed: one outlier must not end the launching."""
    noise: float
    """The standard deviation of a launch's log value (A/B: of a pair's log-ratio)."""
    launches: int
    recurrence_worse: float
    """The exact p of the rank test that the launches lie on the worse side."""
    recurrence_better: float
    """The same of the better side."""
    best_recurrence: float
    """The smallest p that the recurrence test can reach with the maximum of launches."""

    def can_recur(self, settings: Settings) -> bool:
        """Whether any launches that may still be made could show a change that recurs."""
        return self.best_recurrence <= settings.recurrence_level


def beliefs(cells: Sequence[Evidence], settings: Settings) -> list[Noise]:
    """What is believed of each cell's launch noise: measured by A/A, or the prior fitted to the run's own cells."""
    groups: dict[tuple[Kind, bool], list[Noise]] = {}
    for cell in cells:
        sessions = [cell.pairs] if cell.pairs is not None else by_session(logs(cell.baseline), cell.session_sizes)
        if (seen := noise_within(sessions)) is not None:
            groups.setdefault((cell.kind, cell.pairs is not None), []).append(seen)
    fitted = {}
    for paired in (False, True):
        for kind, prior in settings.priors.items():
            fallback = Noise(prior.pair if paired else prior.launch, prior.degrees)
            fitted[kind, paired] = fitted_prior(groups.get((kind, paired), []), fallback, settings.most_fitted_degrees)
    return [cell.launch_noise or fitted[cell.kind, cell.pairs is not None] for cell in cells]


def log_ratio_error(
    noise: Noise, session: Noise, baseline_launches: int, launches: int, baseline_sessions: int
) -> Noise:
    """The standard error of the log-ratio; `baseline_launches` 0 means launch pairs, which share their session."""
    if not baseline_launches:
        return Noise(noise.deviation / math.sqrt(launches), noise.degrees)
    launch_part = (1 / baseline_launches + 1 / launches, noise)
    return combined_noise([launch_part, (1 + 1 / baseline_sessions, session)])


def estimate(evidence: Evidence, belief: Noise, settings: Settings) -> Estimate:
    """The change of a noisy cell whose values are all measurements; `belief` is one of what `beliefs` returns."""
    prior = settings.priors[evidence.kind]
    session = evidence.session_noise or Noise(prior.session, prior.session_degrees)
    sign = evidence.sign
    if evidence.pairs is not None:
        before: list[float] = []
        after = [sign * pair for pair in evidence.pairs]
        badness = mean(after)
        worse, better = signed_rank_tail(after), signed_rank_tail([-value for value in after])
    else:
        before = [sign * value for value in logs(evidence.baseline)]
        after = [sign * value for value in logs(evidence.current)]
        badness = mean(after) - mean(before)
        worse, better = rank_sum_tail(before, after), rank_sum_tail([-v for v in before], [-v for v in after])
    noise = pooled_noise([*by_session(before, evidence.session_sizes), after], belief)
    most = settings.most_launches(len(after))
    # Each launch that is still to come tells of the noise too: the one of a first pair may be known from it alone.
    at_last = Noise(noise.deviation, noise.degrees + most - len(after))
    quiet = Noise(min(noise.deviation, belief.deviation), at_last.degrees)
    return Estimate(
        badness=badness,
        margin=math.log1p(evidence.tolerance),
        error=log_ratio_error(noise, session, len(before), len(after), evidence.baseline_sessions),
        last_error=log_ratio_error(at_last, session, len(before), most, evidence.baseline_sessions),
        best_error=log_ratio_error(quiet, session, len(before), most, evidence.baseline_sessions),
        noise=noise.deviation,
        launches=len(after),
        recurrence_worse=worse,
        recurrence_better=better,
        best_recurrence=1 / math.comb(len(before) + most, most) if before else 0.5**most,
    )


def half_width(level: float, error: Noise) -> float:
    """Half the width of the interval that errs at this level in each tail."""
    return quantile(level, error.degrees) * error.deviation
