"""The testcases of `hybrid_ops.suite.test_generation`."""

from hybrid_ops.suite.test_generation import test_generation

__all__ = ["test_generation"]
