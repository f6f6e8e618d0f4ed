"""What the judge assumes: how noisy a platform is before it is measured, and how much error is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hybrid_ops.measure.metrics import Kind


@dataclass(frozen=True)
class Prior:
    """What is believed about the noise of a kind of metric before a cell's own launches are seen.

    All are standard deviations of log values (0.01 is 1 %).
    """

    launch: float
    """Between launches of one session."""
    session: float
    """Between sessions (hours, days) on one machine; no number of launches in a session reduces it. Of a ratio between
    two engines, whose baseline is every machine's: between machines too."""
    pair: float
    """Between log-ratios of live launch pairs (A/B)."""
    degrees: float = 3.0
    """Degrees of freedom: how many launches the belief about `launch` and `pair` is worth."""
    session_degrees: float = 30.0
    """Degrees of freedom of `session`: no run can measure it, so it is a stated allowance rather than a guess."""


PRIORS: Mapping[str, Mapping[Kind, Prior]] = {
    "cpu": {
        Kind.ABSOLUTE: Prior(launch=0.04, session=0.02, pair=0.02),
        Kind.RATIO: Prior(launch=0.10, session=0.12, pair=0.02),
    },
    "cuda": {
        Kind.ABSOLUTE: Prior(launch=0.01, session=0.003, pair=0.01),
        Kind.RATIO: Prior(launch=0.015, session=0.05, pair=0.005),
    },
}
"""By platform; another one, such as a running server's, has the CPU's, which are measured on a shared two-core machine
(`docs/judging.md`)."""


@dataclass(frozen=True)
class Settings:
    """How much error is allowed and how many launches may be spent."""

    false_discovery_rate: float = 0.01
    """The expected share of unchanged cells among those called slower in a run (and, apart, among those called faster),
    whenever one stops."""
    interval_error: float = 0.05
    """How often each end of a cell's interval may lie on the wrong side of the truth, over all looks."""
    miss_rate: float = 0.05
    """How often a cell may pass, over all looks, whose true change is twice the tolerance."""
    power: float = 0.95
    """How surely the minimum detectable effect is detected."""
    minimum_launches: int = 2
    """No cell is called slower or faster from fewer launches."""
    maximum_launches: int = 12
    """The looks over which the error is spent; launches (or launch pairs) beyond it are judged as its last look."""
    recurrence_level: float = 0.05
    """The exact rank test's level that slower and faster must also reach, whatever the noise's distribution."""
    priors: Mapping[Kind, Prior] = field(default_factory=lambda: PRIORS["cuda"])
    most_fitted_degrees: float = 8.0
    """How many degrees of freedom a prior fitted to the run's own cells may be worth."""

    def __post_init__(self) -> None:
        """Raises ValueError for an error rate that is not between 0 and 1 or fewer than one launch."""
        for name in ("false_discovery_rate", "interval_error", "miss_rate", "power", "recurrence_level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not be {getattr(self, name)}")
        if self.minimum_launches < 2 or self.maximum_launches < 1:
            raise ValueError("a verdict needs at least one launch, and slower and faster at least two")

    def most_launches(self, launches: int) -> int:
        """The last look over which the error is shared, when this many launches have been made."""
        return max(self.maximum_launches, self.minimum_launches, launches)

    @classmethod
    def for_platform(cls, platform: str) -> Settings:
        """The settings with the platform's (`cpu`, `cuda`) priors, or the widest for another one."""
        return cls(priors=PRIORS.get(platform, PRIORS["cpu"]))
