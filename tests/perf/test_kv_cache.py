"""The testcases of `hybrid_ops.suite.test_kv_cache`."""

from hybrid_ops.suite.test_kv_cache import test_kv_cache, test_the_planner_says_what_the_engine_says

__all__ = ["test_kv_cache", "test_the_planner_says_what_the_engine_says"]
