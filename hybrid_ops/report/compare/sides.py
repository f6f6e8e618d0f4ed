"""One side of a comparison, whatever it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.history.store import RunFacts

Key = tuple[str, str]
"""A cell of a side: its case and metric."""


@dataclass(frozen=True)
class SideCell:
    """What one side says of a cell."""

    unit: str
    kind: Kind
    direction: Direction
    launches: tuple[Value, ...]
    """One value a launch; of what keeps only the mean of them, that one."""
    definition: str | None
    """Hash of what was measured; None where it is not kept."""
    problem: str | None = None
    """Why there is no value."""
    bound: Value | None = None
    """What a value is held against, of a metric that needs no other side."""
    rounding: float = 0.0
    """How far two exact values may lie apart and still be the same, relative to the greater."""


@dataclass(frozen=True)
class Side:
    """One set of results."""

    name: str
    device: str
    """Its device class, or what is said of the device."""
    platform: str | None
    """None where it is not known: then the noise of a platform is that of the noisiest."""
    facts: RunFacts
    cells: Mapping[Key, SideCell]
