"""Change points and slow drift in the nights of one cell. Pure functions of times and values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from scipy.stats import kendalltau, theilslopes, ttest_ind

from hybrid_ops.regression.statistics import sum_of_squares


class ChangeKind(StrEnum):
    STEP = "step"
    DRIFT = "drift"


@dataclass(frozen=True)
class Change:
    """A change of a cell over its history."""

    kind: ChangeKind
    start: datetime
    """The first night after a step; the first night of a drift's window."""
    before: float
    """The median of the nights before a step (since the step before it); where a drift's line starts."""
    after: float
    """The median of the nights after a step (until the next); where a drift's line ends."""
    p_value: float
    index: int
    """The position of the night that it starts at, in the series."""

    @property
    def change(self) -> float:
        """Relative: after / before - 1."""
        return self.after / self.before - 1


def steps(
    times: Sequence[datetime], values: Sequence[float], least: float = 0.02, p_value: float = 0.001
) -> list[Change]:
    """The steps in a series of positive values in order of time, each of at least `least` (relative).

    Candidates come from Apache Otava (E-divisive with a t-test: Fleming et al. 2023, "Hunter"). Its test divides by
    the number of points without a correction, so that short segments look too quiet: each candidate is tested again
    by Welch's t on logs, and its segments must have three nights. Raises ModuleNotFoundError without apache-otava.
    """
    from otava.analysis import compute_change_points  # an extra of the installation: nothing else needs it

    if len(values) < 6:
        return []
    # One window over all nights: windows of 30 flagged noise three times as often. Plain floats: arrays make it fail.
    found, _ = compute_change_points(
        [float(value) for value in values], window_len=2 * len(values), max_pvalue=p_value, min_magnitude=least
    )
    bounds = [0, *sorted({point.index for point in found}), len(values)]
    result = []
    for left, middle, right in zip(bounds, bounds[1:], bounds[2:]):
        before, after = values[left:middle], values[middle:right]
        if min(len(before), len(after)) < 3:
            continue
        logs = [[math.log(value) for value in side] for side in (before, after)]
        chance = 0.0 if len({*logs[0]}) == len({*logs[1]}) == 1 else float(ttest_ind(*logs, equal_var=False).pvalue)
        levels = statistics.median(before), statistics.median(after)
        step = Change(ChangeKind.STEP, times[middle], *levels, p_value=chance, index=middle)
        if chance <= p_value and abs(math.log1p(step.change)) >= math.log1p(least):
            result.append(step)
    return result


def drift(
    times: Sequence[datetime],
    values: Sequence[float],
    window: timedelta = timedelta(weeks=10),
    least: float = 0.03,
    p_value: float = 0.001,
) -> Change | None:
    """A slow drift over the last `window` of a series of positive values in order of time, or None.

    Kendall's rank correlation (Mann 1945) of the weekly medians with time: weeks, because the nights of one week are
    alike for other reasons; ranks, because one wild week must not make a trend. The size is Theil and Sen's line
    through the weeks, which must also fit them better than any single step does. Seven weeks with values are the least
    that can reach the p-value of 0.001.
    """
    if not times:
        return None
    weeks: dict[int, list[tuple[float, float]]] = {}
    start = times[-1] - window
    for when, value in zip(times, values):
        if when > start:
            day = (when - start) / timedelta(days=1)
            weeks.setdefault(int(day // 7), []).append((day, math.log(value)))
    if len(weeks) < 7:
        return None
    days = [statistics.mean(day for day, _ in nights) for nights in weeks.values()]
    logs = [statistics.median(log for _, log in nights) for nights in weeks.values()]
    chance = float(kendalltau(days, logs).pvalue)
    slope, intercept, _, _ = theilslopes(logs, days)
    before, after = math.exp(intercept + slope * days[0]), math.exp(intercept + slope * days[-1])
    if not chance <= p_value or abs(math.log(after / before)) < math.log1p(least):
        return None
    on_line = math.fsum((log - intercept - slope * day) ** 2 for day, log in zip(days, logs))
    if on_line >= min(sum_of_squares(logs[:week]) + sum_of_squares(logs[week:]) for week in range(1, len(logs))):
        return None
    first = next(index for index, when in enumerate(times) if when > start)
    return Change(ChangeKind.DRIFT, times[first], before, after, chance, first)
