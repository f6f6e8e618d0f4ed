"""Claims: bounds on ratios of a run that someone has stated, and that a run says of whether they hold here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One claim: a ratio that lies below `most` or above `least`."""

    text: str
    metric: str
    at: str = "every"
    """What it is made for, in the words of its procedure: input lengths of a comparison, or a layer."""
    least: float | None = None
    most: float | None = None

    @property
    def bound(self) -> str:
        """`< 1` or `> 0.9`."""
        return f"> {self.least:g}" if self.least is not None else f"< {self.most:g}"
