"""The testcases of `hybrid_ops.suite.test_hybrid_attention`."""

from hybrid_ops.suite.test_hybrid_attention import test_hybrid_attention

__all__ = ["test_hybrid_attention"]
