"""The testcases of `hybrid_ops.suite.test_cells`."""

from hybrid_ops.suite.test_cells import test_cell

__all__ = ["test_cell"]
