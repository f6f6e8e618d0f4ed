"""The knee of a concurrency sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SweepPoint:
    """One load of a concurrency sweep."""

    label: str
    throughput: float
    """Completed requests a second."""
    latency_ms: float
    """Mean end-to-end latency."""

    @property
    def power(self) -> float:
        """Throughput over latency: more is better, and neither alone raises it without end."""
        return self.throughput / self.latency_ms


def knee(points: Sequence[SweepPoint]) -> SweepPoint | None:
    """The point of a sweep beyond which latency grows faster than throughput; None for fewer than three points.

    It is the point of the greatest power, throughput over latency (L. Kleinrock, "Power and deterministic rules of
    thumb for probabilistic problems in computer communications", ICC 1979).
    """
    return max(points, key=lambda point: point.power) if len(points) >= 3 else None
