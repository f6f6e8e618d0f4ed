"""Records of launches, made up, for the tests of what is reckoned from their times."""

from __future__ import annotations

from hybrid_ops.measure.records import CaseRecord, LaunchRecord


def record(name: str, loading: float, **cases: float) -> LaunchRecord:
    """A launch that took so many seconds to load, and so many for each case."""
    return LaunchRecord(
        launch_name=name,
        index=1,
        started="2026-01-01T00:00:00+00:00",
        seconds=loading + sum(cases.values()),
        log="",
        device={},
        arguments={},
        environment={},
        cases={case: CaseRecord(seconds=seconds, values={"x": 1}) for case, seconds in cases.items()},
    )
