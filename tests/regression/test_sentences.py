"""The judge's sentences, word for word: one for each ground, and for each form that it has."""

from __future__ import annotations

import math

import pytest

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.judge import Evidence, Ground, Settings, Value, judge_cell
from hybrid_ops.regression.statistics import Noise

BASELINE = (100.0, 101.0, 99.0, 100.5, 99.6)


def noisy(*current: Value, baseline: tuple[Value, ...] = BASELINE, tolerance: float = 0.025) -> Evidence:
    return Evidence(Kind.ABSOLUTE, Direction.LOWER, current, baseline, tolerance)


def pairs(*log_ratios: float) -> Evidence:
    return Evidence(Kind.ABSOLUTE, Direction.LOWER, tolerance=0.05, pairs=log_ratios)


def exact(*current: Value, baseline: tuple[Value, ...] = (12,)) -> Evidence:
    return Evidence(Kind.EXACT, Direction.NONE, current, baseline)


def bounded(value: Value, direction: Direction, bound: Value) -> Evidence:
    return Evidence(Kind.EXACT, direction, (value,), bounds=(bound,))


def tokens(*current: Value, baseline: tuple[Value, ...]) -> Evidence:
    return Evidence(Kind.EXACT, Direction.NONE, current, baseline, is_tokens=True)


def rounded(*current: Value) -> Evidence:
    return Evidence(Kind.EXACT, Direction.NONE, current, ("7.5 7.0",), rounding=0.01)


SENTENCES = [
    (exact(), Ground.NOTHING_MEASURED, "No launch was measured."),
    (noisy(), Ground.NOTHING_MEASURED, "No launch was measured."),
    (pairs(), Ground.NOTHING_MEASURED, "Refused: no launch pair was measured."),
    (exact(12, None), Ground.REFUSED_VALUE, "Refused: the measurement None is not a value."),
    (noisy(100.0, "12"), Ground.REFUSED_VALUE, "Refused: '12' is not a number (1 of 2 launches)."),
    (noisy(100.0, -1.0, 0), Ground.REFUSED_VALUE, "Refused: -1.0 is not a measurement (2 of 3 launches)."),
    (pairs(0.01, math.inf), Ground.REFUSED_VALUE, "Refused: inf is not a log-ratio."),
    (exact(12, baseline=(math.nan,)), Ground.REFUSED_BASELINE, "Refused: the baseline nan is not a value."),
    (
        noisy(100.0, baseline=(100.0, True)),
        Ground.REFUSED_BASELINE,
        "The baseline is refused: True is not a number (1 of 2 launches).",
    ),
    (exact(12, baseline=()), Ground.MISSING_BASELINE, "Measured 12, but there is no baseline to compare with."),
    (
        noisy(100.0, 101.0, baseline=()),
        Ground.MISSING_BASELINE,
        "Measured 100.499 in 2 launches, but there is no baseline to compare with.",
    ),
    (bounded(0.1, Direction.LOWER, 0.2), Ground.WITHIN_BOUND, "0.1, within the bound of at most 0.2."),
    (bounded(0.2, Direction.LOWER, 0.2), Ground.WITHIN_BOUND, "0.2, within the bound of at most 0.2."),
    (bounded(0.2, Direction.HIGHER, 0.2), Ground.WITHIN_BOUND, "0.2, within the bound of at least 0.2."),
    (bounded(99.0, Direction.HIGHER, 100.0), Ground.BEYOND_BOUND, "99, beyond the bound of at least 100."),
    (exact(12), Ground.EXACTLY_EQUAL, "Exactly 12."),
    (exact(13), Ground.EXACTLY_DIFFERENT, "13 where the baseline has 12: an exact metric must not differ."),
    (
        tokens("5 7 9 4", baseline=("5 7 2 4",)),
        Ground.TOKENS_AGREE,
        "The first 2 tokens are the baseline's; kernels chosen by timing may round otherwise.",
    ),
    (
        tokens("6 7 9 4", baseline=("5 7 2 4",)),
        Ground.EXACTLY_DIFFERENT,
        "6 7 9 4 where the baseline has 5 7 2 4: an exact metric must not differ.",
    ),
    (rounded("7.5 7.07"), Ground.WITHIN_ROUNDING, "7.5 7.07: 9.9e-03 from the baseline, within the bound of 1.0e-02."),
    (
        rounded("7.5 6.3"),
        Ground.EXACTLY_DIFFERENT,
        "7.5 6.3 where the baseline has 7.5 7.0: 1.0e-01 apart, and the bound is 1.0e-02.",
    ),
    (exact(12, 13, 12), Ground.LAUNCHES_DISAGREE, "An exact metric, but the launches differ among themselves: 12, 13."),
    (
        exact(12, baseline=(12, 14)),
        Ground.BASELINE_DISAGREES,
        "An exact metric, but the baseline's launches differ among themselves: 12, 14.",
    ),
    (
        noisy(100.1),
        Ground.WITHIN_TOLERANCE,
        "+0.1% (worse) after 1 launch, confidence interval -1.8% to +2.0%, "
        "within the tolerance of 2.5%: twice as much is excluded; "
        "the tolerance is below the minimum detectable effect of 2.6%.",
    ),
    (
        pairs(0.001, -0.002, 0.0),
        Ground.WITHIN_TOLERANCE,
        "-0.0% (better) after 3 launch pairs, confidence interval -0.9% to +0.9%, "
        "within the tolerance of 5.0%: twice as much is excluded.",
    ),
    (
        noisy(106.0, 106.3, 105.9),
        Ground.BEYOND_TOLERANCE,
        "+6.0% (worse) after 3 launches, confidence interval +4.2% to +7.9%, "
        "wholly worse than the tolerance of 2.5% (p = 4e-07).",
    ),
    (
        noisy(94.0, 93.8, 94.1),
        Ground.BETTER_THAN_TOLERANCE,
        "-6.0% (better) after 3 launches, confidence interval -7.7% to -4.4%, "
        "wholly better than the tolerance of 2.5%: record it.",
    ),
    (
        noisy(105.0),
        Ground.LAUNCH_AGAIN,
        "+5.0% (worse) after 1 launch, confidence interval +2.1% to +7.9%, "
        "still on both sides of the tolerance of 2.5%: launch again; "
        "the tolerance is below the minimum detectable effect of 2.6%.",
    ),
    (
        noisy(*(102.5,) * 12),
        Ground.BUDGET_SPENT,
        "+2.5% (worse) after 12 launches, confidence interval +1.3% to +3.7%, "
        "still on both sides of the tolerance of 2.5%, and the budget is spent.",
    ),
    (
        noisy(130.0, 131.0, 129.0, baseline=(100.0,)),
        Ground.BASELINE_TOO_SMALL,
        "+30.0% (worse) after 3 launches, confidence interval +25.8% to +34.3%: "
        "the baseline has too few launches (1) to show a difference from it; "
        "the tolerance is below the minimum detectable effect of 4.4%.",
    ),
    (
        noisy(*(100.0,) * 3, tolerance=0.0),
        Ground.NOISE_TOO_GREAT,
        "-0.0% (better) after 3 launches, confidence interval -1.7% to +1.7%: "
        "the noise is too great for the tolerance of 0.0%, and more launches would not help; "
        "the tolerance is below the minimum detectable effect of 2.4%.",
    ),
]


@pytest.mark.parametrize(("evidence", "ground", "sentence"), SENTENCES)
def test_each_ground_has_its_sentence(evidence, ground, sentence):
    judgement = judge_cell(evidence, Settings())
    assert (judgement.ground, judgement.verdict) == (ground, ground.verdict)
    assert judgement.reason == sentence
    assert judgement.decided == (ground is not Ground.LAUNCH_AGAIN)
    assert judgement.launches == len(evidence.current if evidence.pairs is None else evidence.pairs)


@pytest.mark.parametrize(
    ("direction", "values", "bounds", "furthest"),
    [
        (Direction.LOWER, (0.1, 0.5, 0.2), (0.2, 0.4, 0.9), (0.5, 0.4)),
        (Direction.LOWER, (0.1, 0.3, 0.2), (0.2, 0.35, 0.9), (0.3, 0.35)),
        (Direction.HIGHER, (9.0, 5.0, 7.0), (8.0, 5.5, 6.0), (5.0, 5.5)),
    ],
)
def test_the_launch_that_is_furthest_beyond_its_bound_speaks_for_all(direction, values, bounds, furthest):
    judgement = judge_cell(Evidence(Kind.EXACT, direction, values, bounds=bounds), Settings())
    assert (judgement.value, judgement.baseline) == furthest
    sign = 1 if direction is Direction.LOWER else -1
    assert (judgement.ground is Ground.BEYOND_BOUND) is (sign * (furthest[0] - furthest[1]) > 0)


def test_without_a_budget_the_cell_that_could_be_launched_again_says_so():
    judgement = judge_cell(noisy(105.0), Settings(), budget_left=False)
    assert (judgement.ground, judgement.decided) == (Ground.BUDGET_SPENT, False)
    assert judgement.reason.startswith(
        "+5.0% (worse) after 1 launch, confidence interval +2.1% to +7.9%, still on both "
    )
    assert ", and the budget is spent; the tolerance is below" in judgement.reason


def test_too_few_pairs_are_not_blamed_on_a_baseline():
    judgement = judge_cell(pairs(0.7, 0.71), Settings(maximum_launches=3))
    assert judgement.ground is Ground.BASELINE_TOO_SMALL
    assert "the launch pairs that are allowed (--perf-launches) are too few to show a difference" in judgement.reason


def test_noise_known_from_few_launches_is_no_reason_to_give_up():
    """After one pair its interval is wide because the noise is hardly known; the next pairs tell of it."""
    known = Evidence(
        Kind.ABSOLUTE, Direction.LOWER, tolerance=0.02, pairs=(0.045,), launch_noise=Noise(0.011, degrees=1)
    )
    judgement = judge_cell(known, Settings(maximum_launches=8))
    assert judgement.interval[0] < 0 < judgement.interval[1]
    assert judgement.ground is Ground.LAUNCH_AGAIN


def test_no_ground_is_left_out():
    assert {ground for _, ground, _ in SENTENCES} == set(Ground)
