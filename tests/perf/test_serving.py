"""The testcases of `hybrid_ops.suite.test_serving`."""

from hybrid_ops.suite.test_serving import test_serving

__all__ = ["test_serving"]
