"""Whole decisions against the rule of docs/judging.md, written out once more with scipy's distributions."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.judge import (
    PRIORS,
    Evidence,
    Ground,
    Settings,
    judge_cell,
    judge_run,
    minimum_detectable_effect,
    tolerance_from_launches,
)
from hybrid_ops.regression.judge.settings import Prior
from hybrid_ops.regression.statistics import (
    Noise,
    false_discovery_threshold,
    fitted_prior,
    look_level,
    noise_within,
    rank_sum_tail,
    signed_rank_tail,
)

near = pytest.approx
logs = st.floats(-0.3, 0.3)
noises = st.builds(Noise, st.sampled_from([0.0, 0.004, 0.02, 0.1]), st.sampled_from([1.0, 3.5, 20.0]))


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    """Noisy cells: a stored baseline of one session or more, or launch pairs, near each other or not."""
    shift, spread = draw(logs), draw(st.sampled_from([0.0, 0.003, 0.03, 0.3]))

    def launches(count: int, centre: float) -> list[float]:
        return [centre + spread * draw(logs) for _ in range(count)]

    evidence = Evidence(
        draw(st.sampled_from([Kind.ABSOLUTE, Kind.RATIO])),
        draw(st.sampled_from([Direction.LOWER, Direction.HIGHER])),
        tolerance=draw(st.sampled_from([0.0, 0.02, 0.1, 0.3])),
        launch_noise=draw(st.none() | noises),
        session_noise=draw(st.none() | noises),
    )
    count = draw(st.integers(1, 14))
    if draw(st.booleans()):
        return replace(evidence, pairs=launches(count, shift))
    sizes = draw(st.sampled_from([(), (1,), (3,), (3, 2), (4, 4, 4)]))
    baseline = launches(sum(sizes) or 5, 4.0)
    return replace(
        evidence,
        baseline=[math.exp(value) for value in baseline],
        current=[math.exp(value) for value in launches(count, 4.0 + shift)],
        session_sizes=sizes,
    )


settings_drawn = st.builds(
    Settings,
    maximum_launches=st.sampled_from([1, 3, 8, 12]),
    minimum_launches=st.sampled_from([2, 3]),
    miss_rate=st.sampled_from([0.05, 0.2]),
    interval_error=st.sampled_from([0.05, 0.1]),
    recurrence_level=st.sampled_from([0.05, 0.2]),
    power=st.sampled_from([0.95, 0.8]),
    false_discovery_rate=st.sampled_from([0.01, 0.05]),
    priors=st.sampled_from(list(PRIORS.values())),
)


def added(noise: tuple[float, float], session: tuple[float, float], before: int, after: int, sessions: int) -> Any:
    """(error, degrees) of the log-ratio, from (deviation, degrees) of launches and of sessions."""
    if not before:
        return noise[0] / math.sqrt(after), noise[1]
    parts = [(noise[0] ** 2 * (1 / before + 1 / after), noise[1]), (session[0] ** 2 * (1 / sessions + 1), session[1])]
    variance = sum(part for part, _ in parts)
    if not variance:
        return 0.0, sum(degrees for _, degrees in parts)
    return math.sqrt(variance), variance**2 / sum(part**2 / degrees for part, degrees in parts)


def by_the_book(cell: Evidence, settings: Settings, budget_left: bool) -> dict[str, Any]:
    """What docs/judging.md says of one cell that is judged alone."""
    prior = settings.priors[cell.kind]
    paired = cell.pairs is not None
    sign = 1 if cell.direction is Direction.LOWER else -1
    session = cell.session_noise or Noise(prior.session, prior.session_degrees)
    belief = cell.launch_noise or Noise(prior.pair if paired else prior.launch, prior.degrees)
    before = np.log(cell.baseline) if not paired else np.array([])
    after = np.array(cell.pairs) if paired else np.log(cell.current)
    bad = sign * (after.mean() - (before.mean() if len(before) else 0))
    cuts = np.cumsum(cell.session_sizes)[:-1] if cell.session_sizes else []
    groups = [group for group in [*np.split(before, cuts), after] if len(group)]
    degrees = belief.degrees + sum(len(group) - 1 for group in groups)
    squares = belief.degrees * belief.deviation**2 + sum(((g - g.mean()) ** 2).sum() for g in groups)
    noise = math.sqrt(squares / degrees)
    count, sessions = len(after), max(1, len(cell.session_sizes))
    most = max(settings.maximum_launches, settings.minimum_launches, count)
    known = (session.deviation, session.degrees)
    error, error_degrees = added((noise, degrees), known, len(before), count, sessions)
    last, last_degrees = added((noise, degrees + most - count), known, len(before), most, sessions)
    calm = min(noise, belief.deviation)
    best, best_degrees = added((calm, degrees + most - count), known, len(before), most, sessions)
    level = look_level(settings.interval_error, settings.minimum_launches, most)
    margin = math.log(1 + cell.tolerance)

    def pass_bound(deviation: float, freedom: float) -> float:
        if not margin:
            return -math.inf
        widened = deviation**2 * (freedom / (freedom - 2) if freedom > 3 else 3)
        return margin - widened * math.log(1 / settings.miss_rate) / (2 * margin)

    def p_value(distance: float, side: int) -> float:
        if paired:
            recurrence = signed_rank_tail(list(side * sign * after))
        else:
            recurrence = rank_sum_tail(list(side * sign * before), list(side * sign * after))
        if count < settings.minimum_launches or recurrence > settings.recurrence_level:
            return 1.0
        if not error:
            return 0.0 if distance > 0 else 1.0
        looks = most - settings.minimum_launches + 1
        return min(1.0, looks * stats.t.sf(distance / error, error_degrees))

    width = stats.t.isf(level, error_degrees) * error
    worse, better = p_value(bad, 1), p_value(-bad, -1)
    fewest = 0.5**most if paired else 1 / math.comb(len(before) + most, most)
    can_recur = fewest <= settings.recurrence_level
    spent = count >= settings.maximum_launches
    movement = 2 * math.sqrt(max(0.0, error**2 - best**2))
    ends_well = bad - movement < pass_bound(best, best_degrees)
    ends_badly = can_recur and bad + movement - stats.t.isf(level, best_degrees) * best > margin
    promising = -bad - width > margin and can_recur and budget_left and not spent
    decided = True
    if worse <= settings.false_discovery_rate and bad - width > margin:
        ground = Ground.BEYOND_TOLERANCE
    elif better <= settings.false_discovery_rate and -bad - width > margin:
        ground = Ground.BETTER_THAN_TOLERANCE
    elif bad < pass_bound(error, error_degrees) and not promising:
        ground, level = Ground.WITHIN_TOLERANCE, settings.miss_rate
    elif spent:
        ground = Ground.BUDGET_SPENT
    elif ends_well or ends_badly:
        ground, decided = Ground.LAUNCH_AGAIN if budget_left else Ground.BUDGET_SPENT, False
    else:
        ground = Ground.NOISE_TOO_GREAT if can_recur else Ground.BASELINE_TOO_SMALL
    width = stats.t.isf(level, error_degrees) * error
    look = look_level(settings.interval_error, settings.minimum_launches, most)
    mde = math.expm1((stats.t.isf(look, last_degrees) + stats.t.isf(1 - settings.power, last_degrees)) * last)
    return {
        "ground": ground,
        "decided": decided,
        "change": math.expm1(sign * bad),
        "interval": (sign * bad - width, sign * bad + width),
        "confidence": 1 - 2 * level,
        "p_value": worse,
        "mde": mde,
        "noise": noise,
        "launches": count,
        "value": None if paired else math.exp(after.mean()),
        "baseline": None if paired else math.exp(before.mean()),
    }


@given(evidences(), settings_drawn, st.booleans())
def test_a_cell_alone_is_judged_by_the_book(cell, settings, budget_left):
    expected = by_the_book(cell, settings, budget_left)
    judgement = judge_cell(cell, settings, budget_left)
    numbers = asdict(judgement)
    for name, value in expected.items():
        is_number = isinstance(value, float | tuple)
        assert numbers[name] == (near(value, rel=1e-6, abs=1e-9) if is_number else value), name
    assert judgement.verdict is judgement.ground.verdict


@given(st.lists(evidences(), min_size=1, max_size=4), settings_drawn)
def test_cells_of_a_run_share_their_discoveries_and_nothing_else(cells, settings):
    """With fewer than eight cells no prior is fitted: only the level of the p-values is common."""
    together = judge_run(cells, settings, True)
    level = false_discovery_threshold([judgement.p_value for judgement in together], settings.false_discovery_rate)
    for cell, judgement in zip(cells, together):
        alone = judge_cell(cell, settings)
        assert (judgement.p_value, judgement.mde, judgement.noise) == (alone.p_value, alone.mde, alone.noise)
        if judgement.ground is Ground.BEYOND_TOLERANCE:
            assert judgement.p_value <= level


def test_cells_of_one_kind_tell_each_other_of_their_noise():
    """Pairs and stored baselines apart, and absolute numbers and ratios; what A/A has measured goes before."""
    settings = Settings()
    draw = np.random.default_rng(5)

    def cell(kind: Kind, noise: float, paired: bool) -> Evidence:
        values = list(draw.normal(0, noise, 5))
        if paired:
            return Evidence(kind, Direction.LOWER, tolerance=0.1, pairs=values)
        return Evidence(kind, Direction.LOWER, [1.0], [math.exp(value) for value in values], 0.1)

    kinds = [(kind, paired) for kind in (Kind.ABSOLUTE, Kind.RATIO) for paired in (True, False)]
    run = [cell(kind, 0.01 * 2**place, paired) for place, (kind, paired) in enumerate(kinds) for _ in range(9)]
    measured = replace(run[0], launch_noise=Noise(0.5, 10.0))
    judgements = judge_run([*run, measured], settings, True)
    for place, (kind, paired) in enumerate(kinds):
        cells = run[9 * place : 9 * place + 9] + ([measured] if place == 0 else [])
        own = [noise_within([one.pairs if paired else list(np.log(one.baseline))]) for one in cells]
        prior = settings.priors[kind]
        fallback = Noise(prior.pair if paired else prior.launch, prior.degrees)
        believed = fitted_prior(own, fallback, settings.most_fitted_degrees)
        for judgement, one in zip(judgements[9 * place : 9 * place + 9], own):
            squares = believed.degrees * believed.deviation**2 + one.degrees * one.deviation**2
            assert judgement.noise == near(math.sqrt(squares / (believed.degrees + one.degrees)))
    assert judgements[-1].noise > 0.3


@given(
    st.lists(st.floats(50, 200), min_size=1, max_size=9),
    st.sampled_from([Prior(0.01, 0.003, 0.01), Prior(0.001, 0.0, 0.001), Prior(0.04, 0.02, 0.02)]),
    st.none() | noises,
    st.booleans(),
    st.sampled_from([0.0, 0.02, 0.2]),
)
def test_a_tolerance_has_room_for_noise_and_for_the_furthest_launch(values, prior, session, in_sessions, least):
    sizes = (1, len(values) - 1) if in_sessions and len(values) > 1 else ()
    centred = np.log(values)
    groups = np.split(centred, [1]) if sizes else [centred]
    squares = prior.degrees * prior.launch**2 + sum(((group - group.mean()) ** 2).sum() for group in groups)
    noise = squares / (prior.degrees + sum(len(group) - 1 for group in groups))
    between = (prior.session if session is None else session.deviation) ** 2
    later = math.sqrt(noise * (1 + 1 / len(values)) + between * (1 + 1 / max(1, len(sizes))))
    exact = math.expm1(max(math.log(1 + least), 2.5 * later, abs(centred - centred.mean()).max()))
    tolerance = tolerance_from_launches(values, prior, session, sizes, least)
    assert exact * (1 - 1e-6) - 1e-8 <= tolerance < exact + 0.001 + 1e-8
    assert tolerance * 1000 == near(round(tolerance * 1000))


@pytest.mark.parametrize("least", [0.02, 0.05, 0.003])
def test_a_least_tolerance_is_given_back_as_it_is(least):
    assert tolerance_from_launches([1.0] * 5, Prior(0.0, 0.0, 0.0), least=least) == least


@given(noises, noises, st.sampled_from([0, 1, 5]), st.integers(1, 14), settings_drawn)
def test_a_detectable_effect_follows_from_the_error(noise, session, before, launches, settings):
    error, degrees = added((noise.deviation, noise.degrees), (session.deviation, session.degrees), before, launches, 1)
    most = max(launches, settings.maximum_launches, settings.minimum_launches)
    level = look_level(settings.interval_error, settings.minimum_launches, most)
    expected = math.expm1(error * (stats.t.isf(level, degrees) + stats.t.isf(1 - settings.power, degrees)))
    assert minimum_detectable_effect(noise, session, before, launches, settings) == near(expected, rel=1e-6)


def test_what_is_believed_and_allowed_before_anything_is_measured():
    """Every verdict hangs on these numbers, which docs/judging.md speaks of: a change of one must be meant."""
    believed = {
        (platform, kind): (prior.launch, prior.session, prior.pair, prior.degrees, prior.session_degrees)
        for platform, priors in PRIORS.items()
        for kind, prior in priors.items()
    }
    assert believed == {
        ("cpu", Kind.ABSOLUTE): (0.04, 0.02, 0.02, 3.0, 30.0),
        ("cpu", Kind.RATIO): (0.10, 0.12, 0.02, 3.0, 30.0),
        ("cuda", Kind.ABSOLUTE): (0.01, 0.003, 0.01, 3.0, 30.0),
        ("cuda", Kind.RATIO): (0.015, 0.05, 0.005, 3.0, 30.0),
    }
    allowed = asdict(replace(Settings(), priors={}))
    assert allowed == {
        "false_discovery_rate": 0.01,
        "interval_error": 0.05,
        "miss_rate": 0.05,
        "power": 0.95,
        "minimum_launches": 2,
        "maximum_launches": 12,
        "recurrence_level": 0.05,
        "priors": {},
        "most_fitted_degrees": 8.0,
    }
    assert Settings().priors is Settings.for_platform("cuda").priors is PRIORS["cuda"]
    assert Settings.for_platform("cpu").priors is Settings.for_platform("a running server").priors is PRIORS["cpu"]


@pytest.mark.parametrize("name", ["false_discovery_rate", "interval_error", "miss_rate", "power", "recurrence_level"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.1])
def test_a_rate_lies_between_0_and_1(name, value):
    with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1, not be {value}"):
        Settings(**{name: value})


def test_the_fewest_launches():
    assert (Settings(minimum_launches=2, maximum_launches=1).most_launches(1)) == 2
    for wrong in ({"minimum_launches": 1}, {"maximum_launches": 0}):
        with pytest.raises(ValueError, match="at least one launch"):
            Settings(**wrong)


def test_a_recurrence_of_exactly_its_level_counts():
    """Three pairs of one sign have a p of 1/8."""
    sharp = Evidence(Kind.ABSOLUTE, Direction.LOWER, tolerance=0.02, pairs=(0.3,), launch_noise=Noise(0.001, 50.0))
    for level, once, thrice in (
        (0.125, Ground.LAUNCH_AGAIN, Ground.BEYOND_TOLERANCE),
        (0.12, Ground.BASELINE_TOO_SMALL, Ground.BUDGET_SPENT),
    ):
        settings = Settings(maximum_launches=3, recurrence_level=level)
        assert judge_cell(sharp, settings).ground is once
        assert judge_cell(replace(sharp, pairs=(0.3,) * 3), settings).ground is thrice


def test_exactly_the_tolerance_is_neither_within_nor_beyond():
    """Without any noise the interval is a point."""
    margin, silent = math.log1p(0.02), Noise(0.0, 5.0)
    for count, ground in ((1, Ground.NOISE_TOO_GREAT), (5, Ground.NOISE_TOO_GREAT), (12, Ground.BUDGET_SPENT)):
        worse = Evidence(Kind.ABSOLUTE, Direction.LOWER, tolerance=0.02, pairs=(margin,) * count, launch_noise=silent)
        assert judge_cell(worse, Settings()).ground is ground
        better = judge_cell(replace(worse, pairs=(-margin,) * count), Settings())
        assert (better.ground, better.decided) == (Ground.WITHIN_TOLERANCE, True)


def test_what_is_not_said_of_a_cell_is_nothing():
    plain = judge_cell(Evidence(Kind.ABSOLUTE, Direction.LOWER, (100.0, 100.1), (100.0, 100.2, 99.9)), Settings())
    assert plain.reason.endswith(
        "the noise is too great for the tolerance of 0.0%, and more launches would not help; "
        f"the tolerance is below the minimum detectable effect of {plain.mde:.1%}."
    )
    for exact in ("1.0 2.0", "1.0 2.0000001"):
        judgement = judge_cell(Evidence(Kind.EXACT, Direction.NONE, (exact,), ("1.0 2.0",)), Settings())
        assert judgement.ground is (Ground.EXACTLY_EQUAL if exact == "1.0 2.0" else Ground.EXACTLY_DIFFERENT)


@pytest.mark.parametrize("most", [2, 4, 12])
def test_cells_around_the_tolerance_are_judged_by_the_book(most):
    """Where one launch more would decide, and where it would not; with no noise at all, too."""
    settings, seen = Settings(maximum_launches=most), set()
    for noise in (0.0, 0.005, 0.02):
        for count in (1, 2, 5):
            for distance in np.arange(-0.0525, 0.11, 0.01):
                cell = Evidence(
                    Kind.ABSOLUTE,
                    Direction.HIGHER,
                    tolerance=0.02,
                    pairs=(-float(distance),) * count,
                    launch_noise=Noise(noise, 30.0),
                )
                expected, judgement = by_the_book(cell, settings, True), judge_cell(cell, settings)
                assert (judgement.ground, judgement.decided) == (expected["ground"], expected["decided"])
                assert judgement.p_value == near(expected["p_value"], rel=1e-6, abs=1e-12)
                seen.add(judgement.ground)
    assert seen >= {Ground.WITHIN_TOLERANCE, Ground.LAUNCH_AGAIN}


@pytest.mark.parametrize("degrees", [1.0, 2.5, 3.0, 3.5, 4.0, 30.0])
@pytest.mark.parametrize("deviation", [0.002, 0.005])
def test_a_cell_passes_up_to_walds_bound(degrees, deviation):
    """The variance is Student's, d / (d - 2), which below three degrees would have no bound."""
    variance = deviation**2 * (3 if degrees <= 3 else degrees / (degrees - 2))
    margin = math.log(1.02)
    bound = margin - variance * math.log(20) / (2 * margin)
    for distance, passes in ((bound - 1e-7, True), (bound + 1e-7, False)):
        cell = Evidence(
            Kind.ABSOLUTE,
            Direction.LOWER,
            tolerance=0.02,
            pairs=(distance,),
            launch_noise=Noise(deviation, degrees),
        )
        assert (judge_cell(cell, Settings()).ground is Ground.WITHIN_TOLERANCE) is passes
