"""The rivals' rules do what their descriptions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstwobign, mannwhitneyu

from hybrid_ops.regression.proof.rivals import (
    _kolmogorov_smirnov,
    _mann_whitney,
    change_points,
    growing_repeats,
    pooled_iterations,
    single_run,
    stored_run,
)
from hybrid_ops.regression.proof.traces import NoiseModel, Trace, trace

QUIET = NoiseModel("quiet", launch=1e-4, iteration=1e-4)


def run(change: float, model: NoiseModel = QUIET, seed: int = 0) -> Trace:
    return trace(model, np.random.default_rng(seed), change)


@pytest.mark.parametrize(
    ("rule", "below", "above", "cost"),
    [
        (single_run(0.05), 0.048, 0.052, 1),
        (single_run(0.10), 0.098, 0.102, 1),
        (stored_run(0.05), 0.048, 0.052, 1),
        (pooled_iterations(1.1), 0.098, 0.102, 4),
        (growing_repeats(0.05), 0.0, 0.02, 20),
        (change_points(10, 0.02), 0.018, 0.022, 10),
    ],
)
def test_each_rule_flags_beyond_its_threshold_only(rule, below, above, cost):
    for change, expected in ((below, False), (above, True)):
        trace_ = run(change)
        flags, launches = rule(trace_)
        assert (flags == (trace_.slowed & expected)).mean() > 0.97
        assert set(launches.tolist()) == {cost}


def test_pooling_iterations_mistakes_a_launch_for_a_change():
    bimodal = NoiseModel("bimodal", launch=0.0, slow_mode=0.05, iteration=0.01)
    flags = [pooled_iterations(1.0)(run(0.0, bimodal, seed))[0].mean() for seed in range(10)]
    assert np.mean(flags) > 0.1


def test_repeats_grow_until_decided():
    noisy = NoiseModel("noisy", launch=0.06)
    _, launches = growing_repeats(0.05)(run(0.0, noisy))
    assert {40, 80} <= set(launches.tolist()) <= {20, 40, 80}


def test_the_vectorized_tests_agree_with_scipy():
    source = np.random.default_rng(1)
    left, right = source.normal(0, 1, (20, 15)), source.normal(0.5, 1, (20, 15))
    expected = [mannwhitneyu(a, b, method="asymptotic").pvalue for a, b in zip(left, right)]
    np.testing.assert_allclose(_mann_whitney(left, right), expected, rtol=1e-9)
    root = math.sqrt(15 / 2)
    expected = [kstwobign.sf((root + 0.12 + 0.11 / root) * ks_2samp(a, b).statistic) for a, b in zip(left, right)]
    np.testing.assert_allclose(_kolmogorov_smirnov(left, right), expected, rtol=1e-9)
