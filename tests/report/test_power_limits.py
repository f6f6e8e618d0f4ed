"""The knee of a sweep over power limits, and what is said where there is none."""

from __future__ import annotations

import pytest

from hybrid_ops.report.power_limits import LimitPoint, knee_line, knee_of


def sweep(*points: tuple[int, float, float | None]) -> list[LimitPoint]:
    """Points from (limit in watts, tokens a second, joules a token)."""
    return [
        LimitPoint(f"m@{watts}W/w", watts, {} if joules is None else {"joules_per_token": joules}, rate)
        for watts, rate, joules in points
    ]


def test_the_knee_is_where_energy_times_delay_is_least() -> None:
    # Energy times delay: 0.02, 0.0150, 0.0156.
    points = sweep((600, 100.0, 2.0), (400, 100.0, 1.5), (200, 80.0, 1.25))
    best = knee_of(points)
    assert best is not None and best.label == "400"
    line = knee_line("m/w", points)
    assert line == "m/w: the knee is at 400 W: 100.0% of the most tok/s at 1.5 J/tok, the least energy times delay"


@pytest.mark.parametrize("last", [(200, 80.0, None), None])
def test_two_points_with_an_energy_have_no_knee(last: tuple[int, float, float | None] | None) -> None:
    points = sweep((600, 100.0, 2.0), (400, 100.0, 1.5), *([last] if last else []))
    assert knee_line("m/w", points) == "m/w: no knee: it takes three limits with a known energy"
