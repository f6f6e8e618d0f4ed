"""The knee of a sweep: where more throughput begins to cost more than it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SweepPoint:
    """One load of a concurrency sweep, or one power limit."""

    label: str
    throughput: float
    """Completed requests, or tokens, a second."""
    cost: float
    """The mean end-to-end latency in milliseconds, or the joules of a token."""

    @property
    def worth(self) -> float:
        """Throughput over cost: more is better, and neither alone raises it without end."""
        return self.throughput / self.cost


def knee(points: Sequence[SweepPoint]) -> SweepPoint | None:
    """The point of a sweep beyond which cost grows faster than throughput; None for fewer than three points.

    Over concurrency it is the point of the greatest power, throughput over latency (L. Kleinrock, "Power and
    deterministic rules of thumb for probabilistic problems in computer communications", ICC 1979). Over power limits it
    is that of the least product of energy and delay, joules a token times seconds a token (R. Gonzalez, M. Horowitz,
    "Energy dissipation in general purpose microprocessors", IEEE JSSC 31(9), 1996).
    """
    return max(points, key=lambda point: point.worth) if len(points) >= 3 else None
