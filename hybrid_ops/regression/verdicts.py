"""The closed set of verdicts, and what each means for the test that carries it."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What is concluded about one cell (a case and a metric). The values are the names shown everywhere."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    """Within the tolerance; for an exact metric: the same."""
    SLOWER = "slower"
    """Worse than the baseline by more than the tolerance, in the metric's own direction."""
    FASTER = "faster"
    """Better than the baseline by more than the tolerance: record it."""
    CHANGED = "changed"
    """An exact metric differs, a bounded one is beyond its bound, or the engine is faster with wrong answers."""
    INCONCLUSIVE = "inconclusive"
    """The budget is spent and the confidence interval still straddles the tolerance."""
    INVALID_ENVIRONMENT = "invalid-environment"
    """The machine was not fit to measure: others used it, or it was too hot, held back or set otherwise."""
    FAILED_TO_RUN = "failed-to-run"
    """The engine died, hung or raised an error, or gave something that is no measurement."""
    MISSING_BASELINE = "missing-baseline"
    """Nothing to compare with."""
    EXPECTED_FAILURE = "expected-failure"
    """A known failure, with its reason."""
    UNEXPECTED_SUCCESS = "unexpected-success"
    """A known failure that works now: remove its entry."""

    @property
    def outcome(self) -> str:
        """How pytest has it: `passed`, `failed` (the subject), `error` (the measurement), `skipped` or `xfailed`."""
        return _OUTCOMES[self]

    @property
    def is_bad(self) -> bool:
        """Whether a testcase fails of it, or is an error."""
        return self.outcome in ("failed", "error")

    @property
    def is_measured(self) -> bool:
        """Whether it rests on a measurement. What has no such verdict leaves a gap in the history, never a value."""
        return self not in (Verdict.FAILED_TO_RUN, Verdict.INVALID_ENVIRONMENT)


_OUTCOMES = {
    Verdict.PASS: "passed",
    Verdict.FASTER: "passed",
    Verdict.SLOWER: "failed",
    Verdict.CHANGED: "failed",
    Verdict.UNEXPECTED_SUCCESS: "failed",
    Verdict.INVALID_ENVIRONMENT: "error",
    Verdict.FAILED_TO_RUN: "error",
    Verdict.INCONCLUSIVE: "skipped",
    Verdict.MISSING_BASELINE: "skipped",
    Verdict.EXPECTED_FAILURE: "xfailed",
}
