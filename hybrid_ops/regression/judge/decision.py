"""What the judge concludes of a cell: the verdict, the ground for it and the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hybrid_ops.regression.judge.evidence import Value
from hybrid_ops.regression.verdicts import Verdict


class Ground(StrEnum):
    """Why a cell has its verdict."""

    NOTHING_MEASURED = "nothing-measured"
    REFUSED_VALUE = "refused-value"
    """A launch gave what is no measurement."""
    REFUSED_BASELINE = "refused-baseline"
    """The baseline has what is no measurement."""
    MISSING_BASELINE = "missing-baseline"
    EXACTLY_EQUAL = "exactly-equal"
    TOKENS_AGREE = "tokens-agree"
    """Generated tokens are not all the same, and begin alike."""
    WITHIN_ROUNDING = "within-rounding"
    """Numbers that differ by no more than rounding explains."""
    EXACTLY_DIFFERENT = "exactly-different"
    LAUNCHES_DISAGREE = "launches-disagree"
    """An exact metric differs between the launches."""
    BASELINE_DISAGREES = "baseline-disagrees"
    """An exact metric differs between the baseline's launches."""
    WITHIN_BOUND = "within-bound"
    """Every launch is within the bound that came with it."""
    BEYOND_BOUND = "beyond-bound"
    """A launch is beyond it."""
    WITHIN_TOLERANCE = "within-tolerance"
    """Twice the tolerance is excluded."""
    BEYOND_TOLERANCE = "beyond-tolerance"
    """Wholly worse than the tolerance."""
    BETTER_THAN_TOLERANCE = "better-than-tolerance"
    """Wholly better than the tolerance."""
    LAUNCH_AGAIN = "launch-again"
    """On both sides of the tolerance, and a further launch could decide."""
    BUDGET_SPENT = "budget-spent"
    """On both sides of the tolerance, and no further launch may be made."""
    BASELINE_TOO_SMALL = "baseline-too-small"
    """The baseline has too few launches for any number of new ones to differ from it."""
    NOISE_TOO_GREAT = "noise-too-great"
    """The noise hides the tolerance, however many launches are made."""

    @property
    def verdict(self) -> Verdict:
        """The verdict that this ground is one for."""
        return _VERDICTS[self]


_VERDICTS = {
    Ground.NOTHING_MEASURED: Verdict.FAILED_TO_RUN,
    Ground.REFUSED_VALUE: Verdict.FAILED_TO_RUN,
    Ground.REFUSED_BASELINE: Verdict.FAILED_TO_RUN,
    Ground.MISSING_BASELINE: Verdict.MISSING_BASELINE,
    Ground.EXACTLY_EQUAL: Verdict.PASS,
    Ground.TOKENS_AGREE: Verdict.PASS,
    Ground.WITHIN_ROUNDING: Verdict.PASS,
    Ground.EXACTLY_DIFFERENT: Verdict.CHANGED,
    Ground.LAUNCHES_DISAGREE: Verdict.CHANGED,
    Ground.BASELINE_DISAGREES: Verdict.CHANGED,
    Ground.WITHIN_BOUND: Verdict.PASS,
    Ground.BEYOND_BOUND: Verdict.CHANGED,
    Ground.WITHIN_TOLERANCE: Verdict.PASS,
    Ground.BEYOND_TOLERANCE: Verdict.SLOWER,
    Ground.BETTER_THAN_TOLERANCE: Verdict.FASTER,
    Ground.LAUNCH_AGAIN: Verdict.INCONCLUSIVE,
    Ground.BUDGET_SPENT: Verdict.INCONCLUSIVE,
    Ground.BASELINE_TOO_SMALL: Verdict.INCONCLUSIVE,
    Ground.NOISE_TOO_GREAT: Verdict.INCONCLUSIVE,
}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is concluded of one cell and from what, in numbers."""

    verdict: Verdict
    ground: Ground
    decided: bool = True
    """False: more launches could help."""
    baseline: Value = None
    """The geometric mean of the baseline's launches (exact metrics: the value itself)."""
    value: Value = None
    """The geometric mean of the current launches (exact metrics: the value itself)."""
    change: float | None = None
    """value / baseline - 1: the sign is the value's own, not better or worse."""
    interval: tuple[float, float] | None = None
    """The confidence interval of log(value / baseline); repeated looks are accounted for unless the verdict is pass."""
    confidence: float | None = None
    """The level of the interval, in each tail 1 - (1 - confidence) / 2."""
    p_value: float | None = None
    """Of no change for the worse, valid at whatever launch one stops; 1 as long as nothing has recurred."""
    mde: float | None = None
    """The smallest relative change for the worse that differs from none with `Settings.power`, when
    `Settings.maximum_launches` are spent."""
    noise: float | None = None
    """The standard deviation of a launch (A/B: of a pair's log-ratio) that was reckoned with."""
    launches: int


@dataclass(frozen=True, kw_only=True)
class Judgement(Decision):
    """A decision with its sentence. A waiver may change its verdict; the ground stays what the numbers said."""

    reason: str
    """One sentence with the numbers."""
