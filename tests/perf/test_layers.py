"""The testcases of `hybrid_ops.suite.test_layers`."""

from hybrid_ops.suite.test_layers import test_a_layer_meets_its_goals, test_layer

__all__ = ["test_a_layer_meets_its_goals", "test_layer"]
