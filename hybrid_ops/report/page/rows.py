"""The rows of the page's table, worst first, and what a reader does about the bad ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.causes import SEVERITY, Cause, causes
from hybrid_ops.report.commands import accept, measure_again
from hybrid_ops.report.numbers import show_change, show_short
from hybrid_ops.report.page.trends import CellTrend

MEANINGS = {
    Verdict.SLOWER: "worse than the baseline by more than the tolerance",
    Verdict.CHANGED: "an exact metric differs from the baseline",
    Verdict.UNEXPECTED_SUCCESS: "a known failure that works now",
    Verdict.FAILED_TO_RUN: "the engine died, hung or gave no measurement",
    Verdict.INVALID_ENVIRONMENT: "the machine was not fit to measure",
    Verdict.INCONCLUSIVE: "the noise still hides the answer",
    Verdict.FASTER: "better than the baseline by more than the tolerance",
    Verdict.EXPECTED_FAILURE: "a known failure",
    Verdict.MISSING_BASELINE: "nothing to compare with",
    Verdict.PASS: "within the tolerance",
}
MOST_CONCERNS = 30
"""How many bad things are listed above the table, which has them all."""


@dataclass(frozen=True)
class Row:
    """One cell, as the table shows it."""

    case: str
    metric: str
    verdict: str
    """A verdict, or what the history has in its place."""
    baseline: str
    now: str
    change: str
    trend: str
    device: str = ""

    @property
    def model(self) -> str:
        """Without the engine's configuration: `sorter` of `sorter@insertion/thousand`."""
        return self.case.partition("/")[0].partition("@")[0]

    @property
    def workload(self) -> str:
        return self.case.partition("/")[2]


@dataclass(frozen=True)
class Concern:
    """What is bad for one cause, and what to do about it."""

    cause: Cause
    again: str | None
    accept: str | None
    log: str | None = None


@dataclass(frozen=True)
class Count:
    """How many cells have a verdict."""

    verdict: str
    count: int
    meaning: str


@dataclass(frozen=True)
class Choices:
    """What the filters offer."""

    models: list[str] = field(default_factory=list)
    workloads: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)


def rank(verdict: str) -> int:
    """The place of a verdict among all, 0 for the worst; a gap of the history stands among what has no value."""
    return SEVERITY.index(Verdict(verdict)) if verdict in SEVERITY else SEVERITY.index(Verdict.FAILED_TO_RUN)


def row_of(cell: CellResult, trend: CellTrend | None) -> Row:
    """The row of a cell of a run."""
    return Row(
        case=cell.case,
        metric=cell.metric,
        verdict=cell.verdict.value,
        baseline=show_short(cell.baseline, cell.unit),
        now=show_short(cell.value, cell.unit),
        change="" if cell.verdict is Verdict.CHANGED else show_change(cell.change),
        trend="" if trend is None else trend.text,
    )


def concerns(run: RunResults, logs: dict[str, str]) -> list[Concern]:
    """What of a run is bad, cause by cause, the worst first. `logs` are links to the engines' logs by their paths."""
    return [
        Concern(
            cause,
            measure_again(run, cause.cells),
            accept(run, cause.cells),
            next((logs[cell.log] for cell in cause.cells if cell.log in logs), None),
        )
        for cause in causes(run.cells)
        if cause.verdict.is_bad
    ]


def counts(verdicts: Sequence[str]) -> list[Count]:
    """How many cells have each verdict, the worst first."""
    counted = Counter(verdicts)
    names = sorted(counted, key=rank)
    meanings = {verdict.value: meaning for verdict, meaning in MEANINGS.items()}
    return [Count(name, counted[name], meanings.get(name, "the newest run left no results")) for name in names]


def choices(rows: Sequence[Row]) -> Choices:
    """What the filters of these rows offer, in order of the alphabet; verdicts the worst first."""
    return Choices(
        models=sorted({row.model for row in rows}),
        workloads=sorted({row.workload for row in rows}),
        metrics=sorted({row.metric for row in rows}),
        verdicts=[count.verdict for count in counts([row.verdict for row in rows])],
        devices=sorted({row.device for row in rows}),
    )
