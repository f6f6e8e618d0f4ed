"""Numbers with a bound are compared with a tolerance for rounding, and with none for noise."""

from __future__ import annotations

import pytest

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.judge import Evidence, Settings, are_alike, judge_cell
from hybrid_ops.regression.verdicts import Verdict

BASELINE = "7.5 7.25 7.0"


def judged(*current: str | float, baseline: str | float = BASELINE, bound: float = 1e-2) -> tuple[Verdict, str]:
    judgement = judge_cell(Evidence(Kind.EXACT, Direction.NONE, current, (baseline,), rounding=bound), Settings())
    return judgement.verdict, judgement.reason


def test_numbers_within_the_bound_pass_and_say_how_far() -> None:
    verdict, reason = judged("7.5 7.3 7.0")
    assert verdict is Verdict.PASS
    assert reason == "7.5 7.3 7.0: 6.8e-03 from the baseline, within the bound of 1.0e-02."
    assert judged(BASELINE) == (Verdict.PASS, f"Exactly {BASELINE}.")
    assert judged(10.05, baseline=10.0)[0] is Verdict.PASS


def test_one_number_beyond_the_bound_is_a_change_in_either_direction() -> None:
    verdict, reason = judged("7.5 7.25 6.9")
    assert verdict is Verdict.CHANGED
    assert reason == f"7.5 7.25 6.9 where the baseline has {BASELINE}: 1.4e-02 apart, and the bound is 1.0e-02."
    assert judged("7.5 7.25 7.1")[0] is Verdict.CHANGED
    assert judged(9.8, baseline=10.0)[0] is Verdict.CHANGED


@pytest.mark.parametrize("other", ["7.5 7.25", "7.5 7.25 7.0 7.0", "0 7.25 7.0", "-7.5 7.25 7.0"])
def test_another_number_of_steps_or_another_sign_is_a_change(other: str) -> None:
    assert judged(other)[0] is Verdict.CHANGED
    assert judged(BASELINE, other)[0] is Verdict.CHANGED, "launches that disagree among themselves"


def test_without_a_bound_numbers_must_be_equal() -> None:
    assert judged("7.5 7.25 7.0000001", bound=0.0)[0] is Verdict.CHANGED
    assert not are_alike([1.0, 1.0 + 1e-9], is_tokens=False)
    assert are_alike([1.0, 1.0 + 1e-9], is_tokens=False, rounding=1e-6)


def test_the_same_numbers_in_other_words_are_no_distance_apart() -> None:
    verdict, reason = judged("7.50 7.25 7")
    assert verdict is Verdict.PASS
    assert reason == "7.50 7.25 7: 0.0e+00 from the baseline, within the bound of 1.0e-02."
