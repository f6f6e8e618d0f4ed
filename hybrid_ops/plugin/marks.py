"""The marks of performance tests."""

PROCEDURE_MARK = "procedure"
MARKS = (
    "perf: a performance test; run with --perf",
    "gpu: needs a GPU, or runs on the one that is there",
    f"{PROCEDURE_MARK}(name): the kind of work whose cases `measured_case` and `measured_claims` have",
)
