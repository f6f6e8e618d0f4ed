"""Steps and slow drift in a history."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.history.changes import ChangeKind, drift, steps
from hybrid_ops.regression.judge import Evidence, Settings, judge_cell
from hybrid_ops.regression.statistics import Noise
from hybrid_ops.regression.verdicts import Verdict

START = datetime(2026, 1, 1, 3, tzinfo=UTC)


def nights(count: int) -> list[datetime]:
    return [START + timedelta(days=night) for night in range(count)]


def noisy(source: random.Random, trend: list[float], noise: float = 0.01) -> list[float]:
    return [100 * math.exp(level + source.gauss(0, noise)) for level in trend]


def test_a_step_is_found_where_it_is():
    source = random.Random(1)
    hits = 0
    for _ in range(50):
        values = noisy(source, [0.0] * 60 + [0.06] * 30, noise=0.02)
        found = steps(nights(90), values)
        hits += any(abs((change.start - START).days - 60) <= 2 for change in found)
        assert all(change.kind is ChangeKind.STEP for change in found)
    assert hits >= 47


def test_noise_alone_is_no_change():
    source = random.Random(2)
    flagged = sum(
        bool(steps(nights(70), values)) or drift(nights(70), values) is not None
        for values in (noisy(source, [0.0] * 70, noise=0.02) for _ in range(200))
    )
    assert flagged <= 6


def test_exact_values_step_without_noise():
    [change] = steps(nights(20), [4096.0] * 12 + [8192.0] * 8)
    assert (change.before, change.after, change.start) == (4096, 8192, START + timedelta(days=12))
    assert steps(nights(20), [4096.0] * 20) == []


@pytest.mark.parametrize(("noise", "least"), [(0.005, 25), (0.01, 25), (0.02, 20)])
def test_a_slow_drift_is_found_although_no_single_night_fails(noise, least):
    """1 % a week over ten weeks; each night is judged against the week before, as a baseline that follows would be."""
    source = random.Random(3)
    settings = Settings()
    found = 0
    for _ in range(25):
        values = noisy(source, [math.log1p(0.01) * night / 7 for night in range(70)], noise)
        slow = drift(nights(70), values)
        found += slow is not None and 0.06 < slow.change < 0.14
        for night in range(7, 70):
            before = values[night - 7 : night]
            evidence = Evidence(Kind.ABSOLUTE, Direction.LOWER, [values[night]], before, tolerance=0.025)
            assert judge_cell(evidence, settings).verdict is not Verdict.SLOWER
    assert found >= least


def test_nor_does_a_night_of_three_launches_fail_under_a_fixed_baseline_with_room():
    source = random.Random(4)
    values = [100 * 1.01 ** (night / 7) for night in range(70)]
    baseline = noisy(source, [0.0] * 8)
    for value in values:
        current = [value * math.exp(source.gauss(0, 0.01)) for _ in range(3)]
        evidence = Evidence(Kind.ABSOLUTE, Direction.LOWER, current, baseline, 0.12, session_noise=Noise(0.003, 10))
        assert judge_cell(evidence, Settings()).verdict is not Verdict.SLOWER
    assert drift(nights(70), values) is not None


def test_a_step_is_not_a_drift_and_a_short_history_says_nothing():
    source = random.Random(5)
    for _ in range(100):
        at = source.randrange(10, 60)
        assert drift(nights(70), noisy(source, [0.0] * at + [0.06] * (70 - at))) is None
    assert drift(nights(40), noisy(source, [0.002 * night for night in range(40)])) is None
    assert drift([], []) is None
    assert steps(nights(5), [1.0, 1.0, 1.0, 2.0, 2.0]) == []


def test_a_drift_of_the_last_ten_weeks_is_found_after_a_long_calm():
    source = random.Random(6)
    trend = [0.0] * 200 + [math.log1p(0.01) * night / 7 for night in range(70)]
    slow = drift(nights(270), noisy(source, trend))
    assert slow is not None and (slow.start - START).days >= 199
