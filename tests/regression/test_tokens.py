"""Token ids are compared one by one where kernels may round in different ways."""

from __future__ import annotations

import pytest

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.judge import Evidence, Settings, judge_cell
from hybrid_ops.regression.verdicts import Verdict

BASELINE = "5 6 7 8 / 1 2 3 4"


def judged(*current: str, is_tokens: bool = True) -> tuple[Verdict, str]:
    evidence = Evidence(Kind.EXACT, Direction.NONE, current, (BASELINE,), is_tokens=is_tokens)
    judgement = judge_cell(evidence, Settings())
    return judgement.verdict, judgement.reason


def test_equal_tokens_are_exactly_equal() -> None:
    assert judged(BASELINE, BASELINE) == (Verdict.PASS, f"Exactly {BASELINE}.")


def test_tokens_that_begin_alike_pass_and_say_how_far() -> None:
    verdict, reason = judged("5 6 7 9 / 1 2 3 4", "5 6 7 8 / 1 2 9 9")
    assert verdict is Verdict.PASS
    assert reason.startswith("The first 2 tokens are the baseline's; ")
    assert judged("5 6 7 9 / 1 2 3 4", is_tokens=False)[0] is Verdict.CHANGED


@pytest.mark.parametrize("other", ["9 6 7 8 / 1 2 3 4", "5 6 7 8 / 2 2 3 4", "5 6 7 8", "5 6 7 8 / 1 2 3 4 / 5"])
def test_another_first_token_of_any_generation_is_a_change(other: str) -> None:
    assert judged(other)[0] is Verdict.CHANGED
    assert judged(BASELINE, other)[0] is Verdict.CHANGED, "launches that disagree among themselves"
