"""Every kind of work that has no testcase of its own: one testcase for each case and metric."""

import pytest

from hybrid_ops.plugin import check
from hybrid_ops.regression.cells import CellResult


@pytest.mark.perf
def test_cell(cell: CellResult) -> None:
    check(cell)
