"""Waivers: a known regression is tolerated for a while, by someone, for a reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date

from hybrid_ops.regression.judge import Judgement
from hybrid_ops.regression.verdicts import Verdict


@dataclass(frozen=True)
class Waiver:
    """Who waives a cell's regression, why and until when."""

    owner: str
    reason: str
    expires: date
    """The last day on which it holds."""
    limit: float | None = None
    """The relative change, for better or worse, up to which it holds; None: any. A waived 5 % does not cover 20 %."""

    def __post_init__(self) -> None:
        """Raises ValueError without an owner or a reason, or with a limit that is not positive."""
        if not self.owner.strip() or not self.reason.strip():
            raise ValueError("a waiver needs an owner and a reason")
        if self.limit is not None and not self.limit > 0:
            raise ValueError(f"a waiver's limit must be positive, not {self.limit}")


def waived(judgement: Judgement, waiver: Waiver | None, today: date) -> Judgement:
    """The judgement of a cell that carries this waiver.

    A regression under a valid waiver is an expected failure. A cell that carries a waiver and passes is an unexpected
    success: the waiver hides the next regression, so it must go. An expired waiver fails either way. What was not
    measured or not decided stays as it is.
    """
    if waiver is None:
        return judgement
    note = f"waived by {waiver.owner} until {waiver.expires.isoformat()}: {waiver.reason}"
    expired = today > waiver.expires
    if judgement.verdict in {Verdict.PASS, Verdict.FASTER}:
        text = f"{judgement.reason} It passes although it is {note}. Remove the {'expired ' if expired else ''}waiver."
        return replace(judgement, verdict=Verdict.UNEXPECTED_SUCCESS, reason=text)
    if judgement.verdict not in {Verdict.SLOWER, Verdict.CHANGED}:
        return judgement
    if expired:
        return replace(judgement, reason=f"{judgement.reason} The waiver has expired ({note}).")
    if _exceeds(judgement, waiver.limit):
        text = f"{judgement.reason} It is beyond the waiver's limit of {waiver.limit:.1%} ({note})."
        return replace(judgement, reason=text)
    return replace(judgement, verdict=Verdict.EXPECTED_FAILURE, reason=f"{judgement.reason} Expected ({note}).")


def _exceeds(judgement: Judgement, limit: float | None) -> bool:
    """Whether a change is surely greater than the limit: an interval's nearer end, or an exact metric's change."""
    if limit is None:
        return False
    if judgement.interval is not None:
        return min(abs(bound) for bound in judgement.interval) > math.log1p(limit)
    return judgement.change is not None and abs(judgement.change) > limit
