"""Waivers."""

from __future__ import annotations

import math
from datetime import date, timedelta

import pytest

from hybrid_ops.regression.judge import Ground, Judgement
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.regression.waivers import Waiver, waived

TODAY = date(2026, 6, 1)


def judgement(verdict: Verdict, change: float = 0.06) -> Judgement:
    interval = (math.log1p(change) - 0.01, math.log1p(change) + 0.01)
    ground = next((ground for ground in Ground if ground.verdict is verdict), Ground.NOTHING_MEASURED)
    return Judgement(verdict=verdict, ground=ground, reason="6 % worse.", change=change, interval=interval, launches=3)


def waiver(days: int = 10, limit: float | None = None) -> Waiver:
    return Waiver("kernel-team", "new scan kernel, fix in review", TODAY + timedelta(days=days), limit)


@pytest.mark.parametrize("verdict", [Verdict.SLOWER, Verdict.CHANGED])
def test_a_valid_waiver_makes_a_regression_expected(verdict):
    result = waived(judgement(verdict), waiver(), TODAY)
    assert result.verdict is Verdict.EXPECTED_FAILURE
    assert "kernel-team" in result.reason and "2026-06-11" in result.reason and "fix in review" in result.reason


def test_a_waiver_holds_on_its_last_day_and_fails_on_the_next():
    assert waived(judgement(Verdict.SLOWER), waiver(0), TODAY).verdict is Verdict.EXPECTED_FAILURE
    late = waived(judgement(Verdict.SLOWER), waiver(-1), TODAY)
    assert late.verdict is Verdict.SLOWER
    assert "expired" in late.reason


@pytest.mark.parametrize("days", [10, -10])
@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FASTER])
def test_a_waiver_that_is_not_needed_fails(verdict, days):
    result = waived(judgement(verdict), waiver(days), TODAY)
    assert result.verdict is Verdict.UNEXPECTED_SUCCESS
    assert result.verdict.outcome == "failed"


@pytest.mark.parametrize(
    "verdict", [Verdict.INCONCLUSIVE, Verdict.FAILED_TO_RUN, Verdict.INVALID_ENVIRONMENT, Verdict.MISSING_BASELINE]
)
def test_a_waiver_hides_no_broken_measurement(verdict):
    assert waived(judgement(verdict), waiver(), TODAY) == judgement(verdict)


def test_a_waiver_does_not_cover_a_greater_regression():
    assert waived(judgement(Verdict.SLOWER, 0.06), waiver(limit=0.08), TODAY).verdict is Verdict.EXPECTED_FAILURE
    assert waived(judgement(Verdict.SLOWER, -0.20), waiver(limit=0.08), TODAY).verdict is Verdict.SLOWER
    exact = Judgement(
        verdict=Verdict.CHANGED, ground=Ground.EXACTLY_DIFFERENT, reason="Differs.", change=0.5, launches=3
    )
    assert waived(exact, waiver(limit=0.08), TODAY).verdict is Verdict.CHANGED


def test_without_a_waiver_nothing_changes():
    assert waived(judgement(Verdict.SLOWER), None, TODAY) == judgement(Verdict.SLOWER)


@pytest.mark.parametrize(
    "fields", [("", "why", None), ("who", " ", None), ("who", "why", 0.0), ("who", "why", math.nan)]
)
def test_a_waiver_names_who_and_why(fields):
    owner, reason, limit = fields
    with pytest.raises(ValueError, match="waiver"):
        Waiver(owner, reason, TODAY, limit)
