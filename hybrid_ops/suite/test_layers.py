"""The reference layers against their peers, as ratios of one launch, and the goals that were set for them.

A ratio is judged against its baseline, as every cell is. A goal fails where the ratio surely lies below it.
"""

import pytest

from hybrid_ops.measure.procedures.layers import LayerTimes
from hybrid_ops.plugin import check
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.claims import ClaimResult, Outcome


@pytest.mark.perf
def test_layer(layer_cell: CellResult) -> None:
    check(layer_cell)


@pytest.mark.perf
@pytest.mark.procedure(LayerTimes.name)
def test_a_layer_meets_its_goals(measured_claims: list[ClaimResult]) -> None:
    told = {
        outcome: [f"{claim.claim}: {claim.ratio}, interval {claim.interval}" for claim in measured_claims
                  if claim.outcome is outcome]
        for outcome in Outcome
    }  # fmt: skip
    assert not told[Outcome.DOES_NOT_HOLD], "; ".join(told[Outcome.DOES_NOT_HOLD])
    if open_goals := [*told[Outcome.UNDECIDED], *told[Outcome.NOT_MEASURED]]:
        pytest.skip(f"inconclusive: {'; '.join(open_goals)}")
