"""The performance suite as testcases: `pytest --perf --pyargs hybrid_ops.suite` runs it from any folder."""
