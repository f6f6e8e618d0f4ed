"""Decisions that need no statistics: exact metrics, refused values and missing baselines."""

from __future__ import annotations

import math

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.judge.decision import Decision, Ground
from hybrid_ops.regression.judge.evidence import (
    Evidence,
    Value,
    are_alike,
    geometric_mean,
    is_exact_value,
    is_measurement,
)


def decide_without_statistics(evidence: Evidence) -> Decision | None:
    """The decision on a cell that is exact, was refused or has no baseline; else None.

    Raises ValueError for a noisy metric without a direction or a negative tolerance.
    """
    if evidence.kind is Kind.EXACT:
        return _exact(evidence)
    if evidence.direction is Direction.NONE:
        raise ValueError(f"a metric of kind {evidence.kind} needs a direction: only exact metrics have none")
    if evidence.tolerance < 0:
        raise ValueError(f"the tolerance {evidence.tolerance} is negative")
    if evidence.pairs is not None:
        if not evidence.pairs:
            return _settled(Ground.NOTHING_MEASURED, evidence)
        if not all(math.isfinite(pair) for pair in evidence.pairs):
            return _settled(Ground.REFUSED_VALUE, evidence)
        return None
    if not evidence.current:
        return _settled(Ground.NOTHING_MEASURED, evidence)
    if not all(is_measurement(value) for value in evidence.current):
        return _settled(Ground.REFUSED_VALUE, evidence)
    value = geometric_mean(evidence.current)
    if not evidence.baseline:
        return _settled(Ground.MISSING_BASELINE, evidence, value)
    if not all(is_measurement(value) for value in evidence.baseline):
        return _settled(Ground.REFUSED_BASELINE, evidence, value)
    return None


def _exact(evidence: Evidence) -> Decision:
    if not all(is_exact_value(value) for value in evidence.current):
        return _settled(Ground.REFUSED_VALUE, evidence)
    if not all(is_exact_value(value) for value in evidence.baseline):
        return _settled(Ground.REFUSED_BASELINE, evidence)
    if not evidence.current:
        return _settled(Ground.NOTHING_MEASURED, evidence)
    if evidence.bounds:
        return _bounded(evidence)
    value = evidence.current[-1]
    if not evidence.baseline:
        return _settled(Ground.MISSING_BASELINE, evidence, value)
    baseline = evidence.baseline[0]
    if not are_alike(evidence.current, evidence.is_tokens, evidence.rounding):
        ground = Ground.LAUNCHES_DISAGREE
    elif not are_alike(evidence.baseline, evidence.is_tokens, evidence.rounding):
        ground = Ground.BASELINE_DISAGREES
    elif len({*evidence.current, *evidence.baseline}) == 1:
        ground = Ground.EXACTLY_EQUAL
    else:
        agree = are_alike([baseline, *evidence.current], evidence.is_tokens, evidence.rounding)
        agreeing = Ground.WITHIN_ROUNDING if evidence.rounding > 0 else Ground.TOKENS_AGREE
        ground = agreeing if agree else Ground.EXACTLY_DIFFERENT
    change = None
    if not isinstance(value, str) and not isinstance(baseline, str) and value is not None and baseline:
        change = value / baseline - 1
    return _settled(ground, evidence, value, baseline, change)


def _bounded(evidence: Evidence) -> Decision:
    """The launch that is furthest beyond its bound, or nearest to it, speaks for all."""
    pairs = zip(map(float, evidence.current), map(float, evidence.bounds))  # type: ignore[arg-type]
    value, bound = max(pairs, key=lambda pair: evidence.sign * (pair[0] - pair[1]))
    is_within = evidence.sign * (value - bound) <= 0
    return _settled(Ground.WITHIN_BOUND if is_within else Ground.BEYOND_BOUND, evidence, value, bound)


def _settled(
    ground: Ground, evidence: Evidence, value: Value = None, baseline: Value = None, change: float | None = None
) -> Decision:
    launches = evidence.current if evidence.pairs is None else evidence.pairs
    return Decision(
        verdict=ground.verdict, ground=ground, value=value, baseline=baseline, change=change, launches=len(launches)
    )
