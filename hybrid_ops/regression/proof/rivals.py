"""The rules by which other systems call a cell slower, re-implemented from their public descriptions.

Each takes one run's trace and returns, per cell, whether it is called slower and how many launches that took. Rules
that compare with a stored baseline pay for the new launches only; rules that measure both sides pay for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from otava.analysis import compute_change_points
from scipy.special import kolmogorov, ndtr

from hybrid_ops.regression.proof.traces import Array, Trace

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    name: str
    judge: Callable[[Trace], tuple[Flags, Array]]
    """The flags of a run's cells and the launches that each cost."""


def single_run(threshold: float) -> Callable[[Trace], tuple[Flags, Array]]:
    """TensorRT-LLM (tests/integration/defs/perf): one launch against a stored value, a fixed relative threshold.

    The stored value is the median of the stored baseline's launches, which is kinder than its single recorded run.
    """

    def judge(run: Trace) -> tuple[Flags, Array]:
        stored = np.median(Trace.medians(run.baseline), axis=1)
        return Trace.medians(run.after)[:, 0] > stored * (1 + threshold), np.ones(len(run.slowed))

    return judge


def stored_run(threshold: float) -> Callable[[Trace], tuple[Flags, Array]]:
    """pytest-benchmark (`--benchmark-compare-fail=median:5%`): the median of this run against that of the last."""

    def judge(run: Trace) -> tuple[Flags, Array]:
        stored = Trace.medians(run.baseline)[:, 0]
        return Trace.medians(run.after)[:, 0] > stored * (1 + threshold), np.ones(len(run.slowed))

    return judge


def pooled_iterations(factor: float, rounds: int = 2) -> Callable[[Trace], tuple[Flags, Array]]:
    """asv (asv/_stats.py, `is_different`, with `asv continuous`'s interleaved rounds and its factor).

    All iterations of all rounds are pooled as if independent and compared by Mann-Whitney at p < 0.002; a difference
    is reported when it also exceeds the factor (1 reports every difference).
    """

    def judge(run: Trace) -> tuple[Flags, Array]:
        old = run.before[:, :rounds].reshape(len(run.slowed), -1)
        new = run.after[:, :rounds].reshape(len(run.slowed), -1)
        slower = np.median(new, axis=1) > np.median(old, axis=1) * factor
        return slower & (_mann_whitney(old, new) < 0.002), np.full(len(run.slowed), 2.0 * rounds)

    return judge


def growing_repeats(magnitude: float, first: int = 10) -> Callable[[Trace], tuple[Flags, Array]]:
    """Pinpoint (Chromium's catapult, dashboard/pinpoint/models/compare): repeats of both sides until decided.

    The smaller p of Mann-Whitney and Kolmogorov-Smirnov: up to 0.01 different; above a high threshold the same, else
    the repeats are doubled. The high threshold is the p that a change of `magnitude` exceeds one time in a hundred; it
    shrinks with the repeats, by the normal approximation here where Pinpoint has a simulated table.
    """

    def judge(run: Trace) -> tuple[Flags, Array]:
        old, new = Trace.medians(run.before), Trace.medians(run.after)
        flags = np.zeros(len(run.slowed), dtype=bool)
        cost = np.zeros(len(run.slowed))
        open_cells = np.arange(len(run.slowed))
        repeats = first
        while len(open_cells) and repeats <= old.shape[1]:
            left, right = old[open_cells, :repeats], new[open_cells, :repeats]
            p_value = np.minimum(_mann_whitney(left, right), _kolmogorov_smirnov(left, right))
            spread = np.maximum(*(np.subtract(*np.percentile(side, [75, 25], axis=1)) for side in (left, right)))
            effect = magnitude * np.median(left, axis=1) / spread * 1.349 * math.sqrt(repeats / 2 * 3 / math.pi)
            high = 2 * ndtr(-np.maximum(effect - 2.326, 0))
            different = p_value <= 0.01
            flags[open_cells] = different & (np.median(right, axis=1) > np.median(left, axis=1))
            cost[open_cells] = 2.0 * repeats
            open_cells = open_cells[~different & (p_value <= high)]
            repeats *= 2
        return flags, cost

    return judge


def change_points(nights: int, magnitude: float) -> Callable[[Trace], tuple[Flags, Array]]:
    """Apache Otava (`otava analyze`): one launch a night, change points over the nights before and after.

    A cell is flagged when a change point for the worse lies in the new nights; the cost is the nights waited.
    """

    def judge(run: Trace) -> tuple[Flags, Array]:
        series = np.concatenate([Trace.medians(run.history), Trace.medians(run.after)[:, :nights]], axis=1)
        start = run.history.shape[1]
        flags = np.zeros(len(run.slowed), dtype=bool)
        for index, values in enumerate(series):
            found, _ = compute_change_points(values.tolist(), max_pvalue=0.001, min_magnitude=magnitude)
            flags[index] = any(point.index >= start - 2 and point.stats.forward_rel_change() > 0 for point in found)
        return flags, np.full(len(run.slowed), float(nights))

    return judge


def _mann_whitney(left: Array, right: Array) -> Array:
    """The two-sided p of Mann-Whitney by the normal approximation, row by row (measured times have no ties)."""
    count, other = left.shape[1], right.shape[1]
    ranks = np.argsort(np.argsort(np.concatenate([left, right], axis=1), axis=1), axis=1)
    statistic = ranks[:, count:].sum(axis=1) - other * (other - 1) / 2
    deviation = math.sqrt(count * other * (count + other + 1) / 12)
    return 2 * ndtr(-np.maximum(np.abs(statistic - count * other / 2) - 0.5, 0) / deviation)


def _kolmogorov_smirnov(left: Array, right: Array) -> Array:
    """The two-sided p of Kolmogorov-Smirnov for samples of one size, row by row, as Pinpoint approximates it."""
    count = left.shape[1]
    order = np.argsort(np.concatenate([left, right], axis=1), axis=1)
    distance = np.abs(np.cumsum(np.where(order < count, 1.0, -1.0), axis=1)).max(axis=1) / count
    root = math.sqrt(count / 2)
    return kolmogorov((root + 0.12 + 0.11 / root) * distance)


RIVALS = (
    Rule("TensorRT-LLM, single run 5 %", single_run(0.05)),
    Rule("TensorRT-LLM, single run 10 %", single_run(0.10)),
    Rule("pytest-benchmark median:5%", stored_run(0.05)),
    Rule("asv is_different", pooled_iterations(1.0)),
    Rule("asv is_different, factor 1.1", pooled_iterations(1.1)),
    Rule("Pinpoint", growing_repeats(0.05)),
    Rule("Otava, 10 nights", change_points(10, 0.02)),
    Rule("single run at 2.5 %", single_run(0.025)),
)
"""The last is nobody's: TensorRT-LLM's rule with the threshold that suits this change best."""
