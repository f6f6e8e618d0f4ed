"""Claims: bounds on ratios of a run that someone has stated, and that a run says of whether they hold here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Claim:
    """One claim: a ratio that lies below `most` or above `least`, at some input lengths."""

    text: str
    metric: str
    at: Literal["every", "shortest", "longest"] = "every"
    """The input lengths that it is made for."""
    least: float | None = None
    most: float | None = None

    @property
    def bound(self) -> str:
        """`< 1` or `> 0.9`."""
        return f"> {self.least:g}" if self.least is not None else f"< {self.most:g}"
