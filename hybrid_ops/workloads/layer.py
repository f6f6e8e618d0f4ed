"""A layer by itself: which one, and in which direction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hybrid_ops.workloads.base import Workload


class LayerWorkload(Workload):
    """One reference layer beside its peers. An iteration is one round, in which each of them computes it once."""

    layer: Literal["delta_rule", "ssd", "selective_scan", "window"]
    direction: Literal["forward", "backward"]
    """Backward is forward and backward together."""
    timed_iterations: int = Field(default=9, gt=0)
