"""What a noise allows: the smallest change that can be detected, and the tolerance that an update may set."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hybrid_ops.regression.judge.estimate import half_width, log_ratio_error
from hybrid_ops.regression.judge.evidence import by_session, is_measurement
from hybrid_ops.regression.judge.settings import Prior, Settings
from hybrid_ops.regression.statistics import Noise, look_level, mean, pooled_noise

TOLERANCE_DEVIATIONS = 2.5
"""How many standard deviations of an unchanged engine's log-ratio an update's tolerance leaves room for."""
TOLERANCE_STEPS = 1000
"""An update's tolerances are rounded up to a whole one of so many parts of 1."""


def minimum_detectable_effect(
    noise: Noise, session: Noise, baseline_launches: int, launches: int, settings: Settings
) -> float:
    """The smallest relative change that is told from none with `settings.power` in this many launches.

    `noise` and `session` are deviations of log values; `baseline_launches` 0 means launch pairs.
    """
    return detectable(
        log_ratio_error(noise, session, baseline_launches, launches, 1), settings.most_launches(launches), settings
    )


def detectable(error: Noise, most: int, settings: Settings) -> float:
    """The minimum detectable effect (relative) of this error of a log-ratio, when `most` looks share the level."""
    level = look_level(settings.interval_error, settings.minimum_launches, most)
    return math.expm1(half_width(level, error) + half_width(1 - settings.power, error))


def tolerance_from_launches(
    values: Sequence[float],
    prior: Prior,
    session: Noise | None = None,
    session_sizes: Sequence[int] = (),
    least: float = 0.02,
) -> float:
    """The tolerance that an update of the baseline may set: no tighter than the spread between launches.

    The largest of `least`, the distance of the furthest launch from the middle, and `TOLERANCE_DEVIATIONS` standard
    deviations of a later launch's log-ratio to this baseline (noise of the launches, moderated by the prior, and of the
    sessions, `session` in place of the prior's where it was measured); relative, rounded up to a tenth of a percent. So
    an unchanged engine passes, mostly at its first launch.
    Raises ValueError for no values or for one that is not a measurement.
    """
    if not values or not all(is_measurement(value) for value in values):
        raise ValueError(f"a tolerance needs measured launches, got {list(values)}")
    logs = [math.log(value) for value in values]
    noise = pooled_noise(by_session(logs, session_sizes), Noise(prior.launch, prior.degrees)).deviation
    furthest = max(abs(value - mean(logs)) for value in logs)
    between = prior.session if session is None else session.deviation
    sessions = max(1, len(session_sizes))
    later = math.sqrt(noise**2 * (1 + 1 / len(logs)) + between**2 * (1 + 1 / sessions))
    tolerance = max(math.log1p(least), TOLERANCE_DEVIATIONS * later, furthest)
    return math.ceil(math.expm1(tolerance) * TOLERANCE_STEPS - 1e-9) / TOLERANCE_STEPS
