"""Generation: one testcase for each model of the zoo, workload of the suite, and metric."""

import pytest

from hybrid_ops.plugin import check
from hybrid_ops.regression.cells import CellResult


@pytest.mark.perf
def test_generation(generation_cell: CellResult) -> None:
    check(generation_cell)
