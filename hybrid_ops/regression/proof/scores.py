"""How often a rule errs on simulated runs, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid_ops.models.sizes import format_table
from hybrid_ops.regression.proof.rivals import Flags
from hybrid_ops.regression.proof.traces import Array, Trace


@dataclass
class Score:
    """What one rule did on one noise model."""

    false_positives: int = 0
    unchanged: int = 0
    misses: int = 0
    passed: int = 0
    slowed: int = 0
    launches_unchanged: float = 0.0
    launches_slowed: float = 0.0
    inconclusive: int = 0
    runs: int = 0

    def add(self, run: Trace, flags: Flags, cost: Array, inconclusive: Flags, changed: bool) -> None:
        """Count one run: an A/A run for false positives, a run with a change for what it misses."""
        if changed:
            self.misses += int((run.slowed & ~flags).sum())
            self.passed += int((run.slowed & ~flags & ~inconclusive).sum())
            self.slowed += int(run.slowed.sum())
            self.launches_slowed += float(cost[run.slowed].sum())
        else:
            self.false_positives += int(flags.sum())
            self.unchanged += len(flags)
            self.launches_unchanged += float(cost.sum())
            self.inconclusive += int(inconclusive.sum())

    def plus(self, other: Score) -> Score:
        """The score on this one's runs and the other's together."""
        return Score(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})

    def row(self) -> list[str]:
        """Its line of a table, in the order of `COLUMNS`."""
        return [
            f"{self.false_positives / self.unchanged:.2%}",
            f"{self.misses / self.slowed:.1%}",
            f"{self.passed / self.slowed:.1%}",
            f"{self.inconclusive / self.unchanged:.1%}",
            f"{self.launches_unchanged / self.unchanged:.1f}",
            f"{self.launches_slowed / self.slowed:.1f}",
        ]


COLUMNS = (
    "rule",
    "false positives",
    "misses",
    "of these passed",
    "A/A inconclusive",
    "launches, A/A",
    "launches, 5 % slower",
)


def table(title: str, scores: dict[str, Score]) -> str:
    """The scores of several rules, by name, as one Markdown table under a title."""
    rows = [list(COLUMNS), *([name, *score.row()] for name, score in scores.items())]
    return f"### {title}\n\n{format_table(rows)}\n"
