"""Serving: one testcase for each model of the zoo, load of the suite, and metric."""

import pytest

from hybrid_ops.plugin import check
from hybrid_ops.regression.cells import CellResult


@pytest.mark.perf
def test_serving(serving_cell: CellResult) -> None:
    check(serving_cell)
