"""The judge's English: one sentence for each decision. Nothing here decides anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.judge.decision import Decision, Ground
from hybrid_ops.regression.judge.evidence import (
    Evidence,
    Value,
    distance,
    is_exact_value,
    is_measurement,
    leading_tokens,
)


def sentence(decision: Decision, evidence: Evidence) -> str:
    """Why the cell of this evidence has its verdict, with the numbers."""
    if decision.interval is not None:
        return _of_interval(decision, evidence, decision.interval)
    if evidence.kind is Kind.EXACT:
        return _of_exact(decision, evidence)
    return _of_refusal(decision, evidence)


def _of_exact(decision: Decision, evidence: Evidence) -> str:
    match decision.ground:
        case Ground.NOTHING_MEASURED:
            return "No launch was measured."
        case Ground.REFUSED_VALUE:
            return f"Refused: the measurement {_first_without_value(evidence.current)!r} is not a value."
        case Ground.REFUSED_BASELINE:
            return f"Refused: the baseline {_first_without_value(evidence.baseline)!r} is not a value."
        case Ground.MISSING_BASELINE:
            return f"Measured {decision.value}, but there is no baseline to compare with."
        case Ground.LAUNCHES_DISAGREE:
            return f"An exact metric, but the launches differ among themselves: {_different(evidence.current)}."
        case Ground.BASELINE_DISAGREES:
            values = _different(evidence.baseline)
            return f"An exact metric, but the baseline's launches differ among themselves: {values}."
        case Ground.EXACTLY_EQUAL:
            return f"Exactly {decision.value}."
        case Ground.WITHIN_BOUND | Ground.BEYOND_BOUND:
            allowed = "at most" if evidence.sign > 0 else "at least"
            what = "within" if decision.ground is Ground.WITHIN_BOUND else "beyond"
            return f"{decision.value:.4g}, {what} the bound of {allowed} {decision.baseline:.4g}."
        case Ground.TOKENS_AGREE:
            agreeing = leading_tokens([*evidence.current, *evidence.baseline])
            return f"The first {agreeing} tokens are the baseline's; kernels chosen by timing may round otherwise."
        case Ground.WITHIN_ROUNDING:
            apart = _furthest(evidence)
            return f"{decision.value}: {apart:.1e} from the baseline, within the bound of {evidence.rounding:.1e}."
    if evidence.rounding > 0:
        return (
            f"{decision.value} where the baseline has {decision.baseline}: {_furthest(evidence):.1e} apart, and the "
            f"bound is {evidence.rounding:.1e}."
        )
    return f"{decision.value} where the baseline has {decision.baseline}: an exact metric must not differ."


def _furthest(evidence: Evidence) -> float:
    """How far the value that lies furthest from the baseline does."""
    return max(distance(evidence.baseline[0], value) for value in evidence.current)


def _first_without_value(values: Sequence[Value]) -> Value:
    return next(value for value in values if not is_exact_value(value))


def _different(values: Sequence[Value]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _of_refusal(decision: Decision, evidence: Evidence) -> str:
    """The sentence on a noisy cell whose change could not be estimated."""
    launches = len(evidence.current)
    match decision.ground:
        case Ground.NOTHING_MEASURED:
            return "No launch was measured." if evidence.pairs is None else "Refused: no launch pair was measured."
        case Ground.MISSING_BASELINE:
            return f"Measured {decision.value:.6g} in {launches} launches, but there is no baseline to compare with."
        case Ground.REFUSED_BASELINE:
            return f"The baseline is refused: {_refused(evidence.baseline)}."
    if evidence.pairs is not None:
        return f"Refused: {next(pair for pair in evidence.pairs if not math.isfinite(pair))} is not a log-ratio."
    return f"Refused: {_refused(evidence.current)}."


def _refused(values: Sequence[Value]) -> str:
    """What is wrong with the first value that is no measurement, and how many there are."""
    refused = [value for value in values if not is_measurement(value)]
    is_number = isinstance(refused[0], int | float) and not isinstance(refused[0], bool)
    what = "a measurement" if is_number else "a number"
    return f"{refused[0]!r} is not {what} ({len(refused)} of {len(values)} launches)"


def _of_interval(decision: Decision, evidence: Evidence, interval: tuple[float, float]) -> str:
    """The sentence on a noisy cell whose change was estimated."""
    change, low, high = decision.change or 0.0, *map(math.expm1, interval)
    unit = "launch pair" if evidence.pairs is not None else "launch"
    plural = "" if decision.launches == 1 else "s" if evidence.pairs is not None else "es"
    side = "worse" if evidence.sign * change > 0 else "better"
    tail = ""
    if decision.mde is not None and decision.mde > evidence.tolerance:
        tail = f"; the tolerance is below the minimum detectable effect of {decision.mde:.1%}"
    return (
        f"{change:+.1%} ({side}) after {decision.launches} {unit}{plural}, "
        f"confidence interval {low:+.1%} to {high:+.1%}{_where_it_lies(decision, evidence)}{tail}."
    )


def _where_it_lies(decision: Decision, evidence: Evidence) -> str:
    tolerance = f"the tolerance of {evidence.tolerance:.1%}"
    match decision.ground:
        case Ground.BEYOND_TOLERANCE:
            return f", wholly worse than {tolerance} (p = {decision.p_value:.2g})"
        case Ground.BETTER_THAN_TOLERANCE:
            return f", wholly better than {tolerance}: record it"
        case Ground.WITHIN_TOLERANCE:
            return f", within {tolerance}: twice as much is excluded"
        case Ground.LAUNCH_AGAIN:
            return f", still on both sides of {tolerance}: launch again"
        case Ground.BUDGET_SPENT:
            return f", still on both sides of {tolerance}, and the budget is spent"
        case Ground.BASELINE_TOO_SMALL if evidence.pairs is not None:
            return ": the launch pairs that are allowed (--perf-launches) are too few to show a difference"
        case Ground.BASELINE_TOO_SMALL:
            return f": the baseline has too few launches ({len(evidence.baseline)}) to show a difference from it"
    return f": the noise is too great for {tolerance}, and more launches would not help"
