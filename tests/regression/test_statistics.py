"""The judge's mathematics against definitions written out, enumerations, and scipy's distributions."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from hybrid_ops.regression.statistics import (
    Noise,
    between_session_noise,
    combined_noise,
    false_discovery_threshold,
    fitted_prior,
    look_level,
    mean,
    median_interval,
    noise_within,
    pooled_noise,
    quantile,
    rank_sum_tail,
    signed_rank_tail,
    sum_of_squares,
    upper_tail,
)

near = pytest.approx
groups = st.lists(st.lists(st.floats(-3, 3), max_size=5), max_size=4)
noises = st.builds(Noise, st.floats(0.01, 2), st.floats(1, 30))


@given(groups, noises)
def test_a_pooled_variance_is_the_mean_of_variances_weighted_by_their_degrees(groups, prior):
    parts = [(prior.deviation**2, prior.degrees)]
    parts += [(float(np.var(group, ddof=1)), len(group) - 1) for group in groups if len(group) > 1]
    degrees = sum(weight for _, weight in parts)
    pooled = pooled_noise(groups, prior)
    assert pooled.degrees == near(degrees)
    assert pooled.deviation**2 == near(sum(variance * weight for variance, weight in parts) / degrees, abs=1e-12)

    within = noise_within(groups)
    if len(parts) == 1:
        assert within is None
    else:
        own = sum(weight for _, weight in parts[1:])
        assert within.degrees == own
        assert within.deviation**2 == near(sum(variance * weight for variance, weight in parts[1:]) / own, abs=1e-12)


def test_means_and_squares_do_not_cancel():
    assert mean([1e16, 1.0, -1e16]) == near(1 / 3)
    assert sum_of_squares([1e8, 1e8 + 1, 1e8 + 2]) == 2


@given(st.lists(st.tuples(st.floats(0.1, 3), noises), min_size=1, max_size=4))
def test_parts_of_noise_add_up_after_welch_and_satterthwaite(parts):
    variances = [factor * noise.deviation**2 for factor, noise in parts]
    combined = combined_noise(parts)
    assert combined.deviation == near(math.sqrt(sum(variances)))
    effective = sum(variances) ** 2 / sum(v**2 / noise.degrees for v, (_, noise) in zip(variances, parts))
    assert combined.degrees == near(effective)
    least, all_of_them = min(noise.degrees for _, noise in parts), sum(noise.degrees for _, noise in parts)
    assert least * (1 - 1e-9) <= combined.degrees <= all_of_them * (1 + 1e-9)
    silent = [*parts, (1.0, Noise(0.0, 5.0))]
    assert combined_noise(silent) == combined
    assert combined_noise([(1.0, Noise(0.0, 5.0)), (2.0, Noise(0.0, 2.0))]) == Noise(0.0, 7.0)


@pytest.mark.parametrize("sizes", [(5, 5), (3, 9)])
@pytest.mark.parametrize("spread", [0.7, 1.3, 2.5])
def test_a_fitted_prior_is_smyths(sizes, spread):
    """Section 6.2: the trigamma of half its degrees is the excess of the variance of the logs."""
    draw = np.random.default_rng(7)
    sample = [Noise(0.02 * math.exp(draw.normal(0, spread)), float(sizes[i % 2])) for i in range(20)]
    half = np.array([noise.degrees / 2 for noise in sample])
    logs = np.log([noise.deviation**2 for noise in sample]) - digamma(half) + np.log(half)
    excess = np.var(logs, ddof=1) - np.mean(polygamma(1, half))
    degrees = 2 * brentq(lambda x: polygamma(1, x) - excess, 1e-6, 1e6, xtol=1e-12)
    fitted = fitted_prior(sample, Noise(1.0, 1.0), most_degrees=1000.0)
    assert fitted.degrees == near(degrees, rel=1e-6)
    assert fitted.deviation**2 == near(math.exp(np.mean(logs) + digamma(degrees / 2) - math.log(degrees / 2)), rel=1e-6)
    bounded = fitted_prior(sample, Noise(1.0, 1.0), most_degrees=degrees / 2)
    assert bounded.degrees == near(degrees / 2)
    assert bounded.deviation**2 == near(math.exp(np.mean(logs) + digamma(degrees / 4) - math.log(degrees / 4)))


def test_a_prior_is_fitted_to_eight_cells_that_have_a_variance():
    fallback = Noise(1.0, 3.0)
    alike = [Noise(0.01, 1.0)] * 8
    assert fitted_prior(alike, fallback, most_degrees=4.0).degrees == 4.0
    for unusable in (Noise(0.0, 5.0), Noise(0.01, 0.9)):
        assert fitted_prior([*alike[:7], unusable], fallback, most_degrees=4.0) == fallback


@given(st.lists(st.lists(st.floats(50, 200), max_size=4), min_size=2, max_size=5))
def test_noise_between_sessions_is_searles(sessions):
    """One-way random effects with unequal groups, written as Searle, Casella and McCulloch have it (3.6)."""
    logs = [np.log(session) for session in sessions if session]
    if len(logs) < 2:
        with pytest.raises(ValueError, match="at least two sessions"):
            between_session_noise(sessions)
        return
    sizes, everything = np.array([len(session) for session in logs]), np.concatenate(logs)
    total, count = sizes.sum(), len(logs)
    means = np.array([session.mean() for session in logs])
    between = float((sizes * (means - everything.mean()) ** 2).sum()) / (count - 1)
    inner = float(sum(((session - session.mean()) ** 2).sum() for session in logs))
    within = inner / (total - count) if total > count else 0.0
    size = (total - (sizes**2).sum() / total) / (count - 1)
    noise = between_session_noise(sessions)
    assert noise.degrees == count - 1
    assert noise.deviation**2 == near(max(0.0, (between - within) / size), abs=1e-12)


@given(st.floats(-5, 5), st.floats(1, 50), st.floats(0.001, 0.999))
def test_tails_are_students(statistic, degrees, probability):
    assert upper_tail(statistic, degrees) == near(stats.t.sf(statistic, degrees))
    assert quantile(probability, degrees) == near(stats.t.isf(probability, degrees), abs=1e-9)


@pytest.mark.parametrize(("error", "first", "last"), [(0.05, 2, 4), (0.01, 1, 3), (0.1, 3, 5), (0.2, 2, 3)])
def test_looks_together_err_as_often_as_meant(error, first, last):
    """The chance that none of the means, standardised, is beyond the bound: a multivariate normal's."""
    level = look_level(error, first, last)
    looks = np.arange(first, last + 1)
    correlation = np.sqrt(np.minimum.outer(looks, looks) / np.maximum.outer(looks, looks))
    bound = stats.norm.isf(level)
    none = stats.multivariate_normal(cov=correlation, seed=1).cdf(np.full(len(looks), bound))
    assert 1 - none == near(error, rel=0.01)
    assert look_level(error, last, last) == error


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_a_rank_sum_tail_is_the_share_of_orderings(reference, values):
    """All ways to deal out the ranks; ties count against."""
    everyone = range(len(reference) + len(values))
    sums = Counter(
        sum(one > other for one in chosen for other in everyone if other not in chosen)
        for chosen in itertools.combinations(everyone, len(values))
    )
    above = sum(one > other for one in values for other in reference)
    share = sum(ways for value, ways in sums.items() if value >= above) / sum(sums.values())
    assert rank_sum_tail(reference, values) == near(share)


@given(st.lists(st.integers(-4, 4), max_size=7))
def test_a_signed_rank_tail_is_the_share_of_signs(differences):
    """All signs of the ranks. Where sizes tie, those below zero have the lower ranks, and zeros count against."""
    ordered = sorted(differences, key=lambda value: (abs(value), value))
    positive = sum(rank for rank, value in enumerate(ordered, 1) if value > 0)
    ranks = range(1, len(differences) + 1)
    signs = list(itertools.product((0, 1), repeat=len(differences)))
    share = sum(sum(rank for rank, sign in zip(ranks, row) if sign) >= positive for row in signs) / len(signs)
    assert signed_rank_tail(differences) == near(share)


@given(st.lists(st.floats(0, 0.2) | st.sampled_from([0.01, 0.02, 0.05]), max_size=8), st.sampled_from([0.05, 0.1]))
def test_the_threshold_is_benjaminis_and_hochbergs(p_values, rate):
    threshold = false_discovery_threshold(p_values, rate)
    if not p_values:
        assert threshold == rate
        return
    adjusted = stats.false_discovery_control(p_values)
    surely = [p for p, q in zip(p_values, adjusted) if q <= rate * (1 - 1e-9)]
    never = [p for p, q in zip(p_values, adjusted) if q > rate * (1 + 1e-9)]
    assert all(p <= threshold * (1 + 1e-12) for p in surely) and all(p > threshold for p in never)
    if not surely and len(never) == len(p_values):
        assert threshold == near(rate / len(p_values))


def test_the_threshold_of_a_p_value_that_just_suffices():
    assert false_discovery_threshold([0.025, 0.9], 0.05) == 0.025
    assert false_discovery_threshold([0.05, 0.05], 0.05) == 0.05
    assert false_discovery_threshold([0.04, 0.9, 0.04], 0.06) == near(0.04)


@pytest.mark.parametrize("count", range(1, 40))
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_a_median_interval_is_the_narrowest_that_holds_it_so_often(count, confidence):
    """How often the k-th from each end hold the median between them, by counting heads."""

    def held(left_out):
        return 1 - 2 * sum(math.comb(count, heads) for heads in range(left_out + 1)) / 2**count

    enough = [left_out for left_out in range((count + 1) // 2) if held(left_out) >= confidence - 1e-12]
    left_out = max(enough, default=0)
    values = list(range(count))
    assert median_interval(values[::-1], confidence) == (left_out, count - 1 - left_out)
    assert median_interval(values) == median_interval(values, 0.95)
