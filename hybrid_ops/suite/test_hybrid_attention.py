"""Full, sliding-window and hybrid attention side by side: one testcase for each configuration, input length and metric.

Whether the claims made for the hybrid hold here is reported from the same measurement; a testcase judges a figure
against its baseline alone.
"""

import pytest

from hybrid_ops.plugin import check
from hybrid_ops.regression.cells import CellResult


@pytest.mark.perf
def test_hybrid_attention(comparison_cell: CellResult) -> None:
    check(comparison_cell)
