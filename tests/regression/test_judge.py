"""The judge's promises, as properties over many cells."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import mannwhitneyu, wilcoxon

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.judge import (
    PRIORS,
    Evidence,
    Settings,
    judge_cell,
    judge_run,
    minimum_detectable_effect,
    tolerance_from_launches,
)
from hybrid_ops.regression.statistics import (
    Noise,
    between_session_noise,
    fitted_prior,
    look_level,
    noise_within,
    rank_sum_tail,
    signed_rank_tail,
)
from hybrid_ops.regression.verdicts import Verdict

SETTINGS = Settings()
BASELINE = (100.0, 101.0, 99.0, 100.5, 99.6)

near = st.floats(-0.2, 0.2)
launches = st.lists(near, min_size=1, max_size=8).map(lambda logs: tuple(100 * math.exp(log) for log in logs))
baselines = st.lists(near, min_size=1, max_size=8).map(lambda logs: tuple(100 * math.exp(log) for log in logs))
tolerances = st.floats(0.0, 0.2)


def cell(
    current: tuple[float | None, ...],
    baseline: tuple[float | None, ...] = BASELINE,
    tolerance: float = 0.025,
    direction: Direction = Direction.HIGHER,
    kind: Kind = Kind.ABSOLUTE,
) -> Evidence:
    return Evidence(kind, direction, current, baseline, tolerance)


def pairs(*log_ratios: float, tolerance: float = 0.02) -> Evidence:
    return Evidence(Kind.ABSOLUTE, Direction.LOWER, tolerance=tolerance, pairs=log_ratios)


@given(baselines, launches, tolerances)
def test_inverse_values_with_the_other_direction_are_judged_alike(baseline, current, tolerance):
    rate = judge_cell(cell(current, baseline, tolerance), SETTINGS)
    times = cell(tuple(1 / v for v in current), tuple(1 / v for v in baseline), tolerance, Direction.LOWER)
    time = judge_cell(times, SETTINGS)
    assert (rate.verdict, rate.decided) == (time.verdict, time.decided)
    assert math.log1p(rate.change) == pytest.approx(-math.log1p(time.change), abs=1e-9)


@given(baselines, launches, tolerances, st.sampled_from([2.0**-40, 0.125, 1024.0, 2.0**60]))
def test_the_unit_does_not_matter(baseline, current, tolerance, scale):
    one = judge_cell(cell(current, baseline, tolerance), SETTINGS)
    other = cell(tuple(v * scale for v in current), tuple(v * scale for v in baseline), tolerance)
    other = judge_cell(other, SETTINGS)
    assert (one.verdict, one.decided) == (other.verdict, other.decided)
    assert one.change == pytest.approx(other.change, abs=1e-9)


@given(baselines, launches, tolerances, st.floats(0.0, 0.3))
def test_a_greater_slow_down_is_never_judged_more_kindly(baseline, current, tolerance, more):
    order = [Verdict.FASTER, Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.SLOWER]
    before = judge_cell(cell(current, baseline, tolerance), SETTINGS)
    after = judge_cell(cell(tuple(v * math.exp(-more) for v in current), baseline, tolerance), SETTINGS)
    if not (before.verdict is Verdict.INCONCLUSIVE and before.change > 0):  # a great gain waits for its second launch
        assert order.index(after.verdict) >= order.index(before.verdict)
    assert after.p_value <= before.p_value * (1 + 1e-6)


@given(baselines, st.floats(1e-6, 1e6), tolerances, st.sampled_from([Direction.HIGHER, Direction.LOWER]))
def test_a_single_launch_never_fails_a_cell(baseline, value, tolerance, direction):
    verdict = judge_cell(cell((value,), baseline, tolerance, direction), SETTINGS).verdict
    assert verdict in {Verdict.PASS, Verdict.INCONCLUSIVE}


def test_what_is_surely_better_is_launched_again_until_it_can_be_recorded():
    better = [cell((150.0, 151.0, 149.0)[:count], baseline=(100.0, 101.0, 99.0)) for count in (1, 2, 3)]
    verdicts = [judge_cell(evidence, SETTINGS).verdict for evidence in better]
    assert verdicts == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.FASTER]
    assert judge_cell(better[1], SETTINGS, budget_left=False).verdict is Verdict.PASS


def test_a_single_bad_launch_among_good_ones_never_fails_a_cell():
    for count in range(2, 9):
        for bad in range(count):
            current = [100.0 + 0.2 * index for index in range(count)]
            current[bad] = 50.0
            assert judge_cell(cell(tuple(current)), SETTINGS).verdict is not Verdict.SLOWER


def test_a_launch_clearly_within_the_tolerance_passes_at_once():
    judgement = judge_cell(cell((100.1,)), SETTINGS)
    assert (judgement.verdict, judgement.decided, judgement.launches) == (Verdict.PASS, True, 1)


def test_a_recurring_slow_down_fails_in_its_own_direction():
    current = (95.0, 95.3, 94.9)
    assert judge_cell(cell(current), SETTINGS).verdict is Verdict.SLOWER
    assert judge_cell(cell(current, direction=Direction.LOWER), SETTINGS).verdict is Verdict.FASTER


def test_what_looks_worse_once_is_launched_again():
    judgement = judge_cell(cell((95.0,)), SETTINGS)
    assert (judgement.verdict, judgement.decided) == (Verdict.INCONCLUSIVE, False)
    assert "launch again" in judgement.reason
    assert "budget is spent" in judge_cell(cell((95.0,)), SETTINGS, budget_left=False).reason


def test_after_the_maximum_of_launches_nothing_is_launched_again():
    straddling = (97.5,) * SETTINGS.maximum_launches
    judgement = judge_cell(cell(straddling), SETTINGS)
    assert (judgement.verdict, judgement.decided) == (Verdict.INCONCLUSIVE, True)


def test_a_budget_of_one_launch_ends_with_it():
    judgement = judge_cell(cell((90.0,)), Settings(maximum_launches=1))
    assert (judgement.verdict, judgement.decided) == (Verdict.INCONCLUSIVE, True)
    assert "budget is spent" in judgement.reason


@pytest.mark.parametrize(
    "wrong", [{"miss_rate": 0.0}, {"power": 1.0}, {"minimum_launches": 1}, {"maximum_launches": 0}]
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"between 0 and 1|at least"):
        Settings(**wrong)


def test_a_baseline_of_one_launch_cannot_convict():
    judgement = judge_cell(cell((80.0, 80.1, 79.9), baseline=(100.0,)), SETTINGS)
    assert (judgement.verdict, judgement.decided) == (Verdict.INCONCLUSIVE, True)
    assert "too few launches (1)" in judgement.reason


def test_noise_between_sessions_is_not_averaged_away():
    evidence = cell((94.0,) * 8, tolerance=0.02)
    quiet = judge_cell(evidence, SETTINGS)
    noisy = judge_cell(replace(evidence, session_noise=Noise(0.05, 20)), SETTINGS)
    assert (quiet.verdict, noisy.verdict) == (Verdict.SLOWER, Verdict.INCONCLUSIVE)
    assert noisy.mde > 0.1 > quiet.mde
    assert "below the minimum detectable effect" in noisy.reason


def test_launch_pairs_are_judged_without_a_baseline():
    judgement = judge_cell(pairs(0.05, 0.06, 0.045, 0.052, 0.05), SETTINGS)
    assert judgement.verdict is Verdict.SLOWER
    assert judgement.change == pytest.approx(math.expm1(0.0514))
    assert judge_cell(pairs(0.001, -0.002, 0.0), SETTINGS).verdict is Verdict.PASS
    assert judge_cell(pairs(-0.05, -0.06, -0.045, -0.052, -0.05), SETTINGS).verdict is Verdict.FASTER


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 0, 0.0, -1.0, "12", True])
def test_what_is_no_measurement_is_refused(value):
    for evidence in (cell((100.0, value)), cell((100.0,), (100.0, value))):
        judgement = judge_cell(evidence, SETTINGS)
        assert judgement.verdict is Verdict.FAILED_TO_RUN
        assert repr(value) in judgement.reason


def test_no_launch_and_no_baseline_are_told_apart():
    assert judge_cell(cell(()), SETTINGS).verdict is Verdict.FAILED_TO_RUN
    assert judge_cell(pairs(), SETTINGS).verdict is Verdict.FAILED_TO_RUN
    assert judge_cell(pairs(math.nan), SETTINGS).verdict is Verdict.FAILED_TO_RUN
    assert judge_cell(cell((100.0,), ()), SETTINGS).verdict is Verdict.MISSING_BASELINE


def test_a_noisy_metric_needs_a_direction_and_a_tolerance_that_is_not_negative():
    with pytest.raises(ValueError, match="needs a direction"):
        judge_cell(cell((100.0,), direction=Direction.NONE), SETTINGS)
    with pytest.raises(ValueError, match="negative"):
        judge_cell(cell((100.0,), tolerance=-0.1), SETTINGS)


@given(st.integers(0, 10**18) | st.text(max_size=8), st.integers(0, 10**18) | st.text(max_size=8))
def test_exact_means_equal(baseline, value):
    for left, right in ((baseline, value), (baseline, baseline)):
        verdict = judge_cell(Evidence(Kind.EXACT, Direction.NONE, (right,), (left,)), SETTINGS).verdict
        assert verdict is (Verdict.PASS if left == right else Verdict.CHANGED)


def test_an_exact_metric_that_differs_between_launches_has_changed():
    judgement = judge_cell(Evidence(Kind.EXACT, Direction.NONE, (12, 13, 12), (12,)), SETTINGS)
    assert judgement.verdict is Verdict.CHANGED
    assert "differ among themselves: 12, 13" in judgement.reason


@pytest.mark.parametrize("value", [None, math.nan])
def test_an_exact_metric_needs_a_value(value):
    verdict = judge_cell(Evidence(Kind.EXACT, Direction.NONE, (value,), (12,)), SETTINGS).verdict
    assert verdict is Verdict.FAILED_TO_RUN


def test_judging_many_cells_asks_more_of_each():
    known = Noise(0.01, 8)
    doubtful, unchanged, slower = (
        replace(cell(values, tolerance=0.005), launch_noise=known) for values in ((96.0, 95.6), (100.0,), (90.0, 90.1))
    )
    verdicts = {
        alike: judge_run([doubtful] + [slower] * alike + [unchanged] * (60 - alike), SETTINGS, True)[0].verdict
        for alike in (0, 50)
    }
    assert verdicts == {0: Verdict.INCONCLUSIVE, 50: Verdict.SLOWER}


def test_interval_and_verdict_agree():
    source = random.Random(5)
    run = [
        cell(tuple(100 * math.exp(source.gauss(shift, 0.01)) for _ in range(1 + index % 8)))
        for index, shift in enumerate([0.0, -0.03, -0.06, 0.06] * 40)
    ]
    seen = set()
    margin = math.log1p(0.025)
    for judgement in judge_run(run, SETTINGS, True):
        low, high = judgement.interval
        seen.add(judgement.verdict)
        if judgement.verdict is Verdict.SLOWER:
            assert high < -margin
        if judgement.verdict is Verdict.FASTER:
            assert low > margin
        if judgement.verdict is Verdict.PASS:
            assert low > -1.5 * margin
    assert seen == {Verdict.PASS, Verdict.SLOWER, Verdict.FASTER, Verdict.INCONCLUSIVE}


def ever_slower(seed: int, shifts: Sequence[float], tolerance: float) -> list[bool]:
    """Which cells of a run with 1 % noise are ever called slower when one looks after every launch."""
    source = random.Random(seed)
    cells = []
    for shift in shifts:
        baseline = tuple(100 * math.exp(source.gauss(0, 0.01)) for _ in range(6))
        current = [100 * math.exp(source.gauss(-shift, 0.01)) for _ in range(SETTINGS.maximum_launches)]
        cells.append((cell((), baseline, tolerance), current))
    ever = [False] * len(cells)
    for looks in range(1, SETTINGS.maximum_launches + 1):
        run = [replace(evidence, current=values[:looks]) for evidence, values in cells]
        slower = [judgement.verdict is Verdict.SLOWER for judgement in judge_run(run, SETTINGS, True)]
        ever = [before or now for before, now in zip(ever, slower)]
    return ever


def test_the_false_discovery_rate_is_kept_although_one_looks_after_every_launch():
    """Without a tolerance to help: any significant slow-down would do."""
    shifts = [0.06] * 20 + [0.0] * 40
    found = wrong = 0
    for seed in range(20):
        ever = ever_slower(seed, shifts, tolerance=0.0)
        found += sum(ever)
        wrong += sum(ever[20:])
    assert found > 20 * 18
    assert wrong / found <= 0.01 + 3 * math.sqrt(0.01 / found)


def test_a_change_of_exactly_the_tolerance_is_seldom_called_slower_at_any_look():
    margin = math.log1p(0.02)
    wrong = sum(sum(ever_slower(seed, [margin] * 50, tolerance=0.02)) for seed in range(20))
    assert wrong / 1000 <= SETTINGS.interval_error + 2 * math.sqrt(0.05 * 0.95 / 1000)


def test_a_change_of_twice_the_tolerance_seldom_passes_at_any_look():
    source = random.Random(3)
    passed = 0
    for _ in range(1000):
        baseline = tuple(100 * math.exp(source.gauss(0, 0.01)) for _ in range(8))
        current = [100 * math.exp(source.gauss(-2 * math.log1p(0.02), 0.01)) for _ in range(8)]
        looks = (judge_cell(cell(tuple(current[:n]), baseline, 0.02), SETTINGS) for n in range(1, 9))
        passed += any(judgement.verdict is Verdict.PASS for judgement in looks)
    assert passed / 1000 <= SETTINGS.miss_rate


@pytest.mark.parametrize(
    ("error", "looks", "published"), [(0.05, 2, 1.875), (0.05, 5, 2.122), (0.025, 2, 2.178), (0.025, 5, 2.413)]
)
def test_the_looks_share_the_error_as_published(error, looks, published):
    """Pocock's constants: Jennison and Turnbull 2000, table 2.1."""
    assert -ndtri(look_level(error, 1, looks)) == pytest.approx(published, abs=2e-3)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=7), st.lists(st.integers(-50, 50), min_size=1, max_size=7))
def test_recurrence_agrees_with_scipy_where_nothing_ties(reference, values):
    left = [value + 0.001 * index for index, value in enumerate(reference)]
    right = [value + 0.0301 + 0.0013 * index for index, value in enumerate(values)]
    expected = mannwhitneyu(right, left, alternative="greater", method="exact").pvalue
    assert rank_sum_tail(left, right) == pytest.approx(expected)
    expected = wilcoxon(right, alternative="greater", method="exact").pvalue
    assert signed_rank_tail(right) == pytest.approx(expected)


def test_a_prior_fitted_to_alike_cells_finds_their_common_noise():
    source = random.Random(1)
    cells = []
    for _ in range(60):
        values = [source.gauss(0, 0.03) for _ in range(5)]
        cells.append(noise_within([values]))
    fitted = fitted_prior(cells, Noise(1.0, 3.0), most_degrees=8.0)
    assert fitted.deviation == pytest.approx(0.03, rel=0.1)
    assert fitted.degrees == 8.0
    mixed = cells[:30] + [replace(noise, deviation=20 * noise.deviation) for noise in cells[:30]]
    assert fitted_prior(mixed, Noise(1.0, 3.0), most_degrees=8.0).degrees < 2
    assert fitted_prior(cells[:7], Noise(1.0, 3.0), most_degrees=8.0) == Noise(1.0, 3.0)


def test_noise_between_sessions_is_what_launches_do_not_explain():
    source = random.Random(2)
    sessions = []
    for _ in range(200):
        shift = source.gauss(0, 0.05)
        sessions.append([100 * math.exp(shift + source.gauss(0, 0.01)) for _ in range(4)])
    assert between_session_noise(sessions).deviation == pytest.approx(0.05, rel=0.15)
    assert between_session_noise([[100, 102, 98], [101, 99, 100]]).deviation == 0
    assert noise_within([[1.0], [], [2.0]]) is None
    assert noise_within([[1.0, 3.0], [10.0, 10.0, 10.0]]) == Noise(math.sqrt(2 / 3), 3)
    with pytest.raises(ValueError, match="two sessions"):
        between_session_noise([[1.0, 2.0]])


def test_a_tolerance_is_no_tighter_than_the_spread_between_launches():
    prior = PRIORS["cuda"][Kind.ABSOLUTE]
    assert tolerance_from_launches([100, 100.1, 99.9] * 7, prior) == 0.02
    assert tolerance_from_launches([100, 100.1, 99.9], prior) > 0.02
    assert tolerance_from_launches([100, 100.1, 110], prior) >= 0.06
    assert tolerance_from_launches([100], PRIORS["cpu"][Kind.ABSOLUTE]) >= 0.08
    for values in ([], [100, 0], [math.nan]):
        with pytest.raises(ValueError, match="measured launches"):
            tolerance_from_launches(values, prior)


def test_more_launches_detect_smaller_effects_down_to_what_the_sessions_allow():
    effects = [minimum_detectable_effect(Noise(0.01, 10), Noise(0.0, 10), 6, n, SETTINGS) for n in range(2, 9)]
    assert effects == sorted(effects, reverse=True)
    floor = minimum_detectable_effect(Noise(0.0, 10), Noise(0.02, 10), 6, 8, SETTINGS)
    assert minimum_detectable_effect(Noise(0.01, 10), Noise(0.02, 10), 6, 8, SETTINGS) > floor > 0.08
