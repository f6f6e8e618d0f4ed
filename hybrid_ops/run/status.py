"""What a night or a merge found, and the one exit status that tells it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.cost import Cost
from hybrid_ops.regression.history.differences import differences
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict

WORSE = (Verdict.SLOWER, Verdict.CHANGED, Verdict.UNEXPECTED_SUCCESS)
MOST_NAMES = 3
"""How many cases the last line names for each verdict."""


class Status(IntEnum):
    """How a night, or a merge, ends."""

    FINE = 0
    REGRESSION = 1
    NOT_MEASURED = 2
    BAD_INPUT = 3


MEANINGS = {
    Status.FINE: "fine",
    Status.REGRESSION: "a regression",
    Status.NOT_MEASURED: "could not be measured",
    Status.BAD_INPUT: "bad input",
}


@dataclass
class Findings:
    """What was found, in words, by what it means for whoever is woken."""

    of: str = "night"
    """What was made, as the last line calls it."""
    regressions: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    bad_input: list[str] = field(default_factory=list)
    summaries: list[Path] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    cells: int = 0

    @property
    def status(self) -> Status:
        """A regression that was measured is one, whatever else went wrong; bad input is often why nothing was."""
        if self.regressions:
            return Status.REGRESSION
        if self.bad_input:
            return Status.BAD_INPUT
        return Status.NOT_MEASURED if self.unmeasured else Status.FINE

    @property
    def last_line(self) -> str:
        """`night: 1, a regression: 3 cells slower (llama-tiny/short); could not be measured: …; summary.md`."""
        told = {
            Status.REGRESSION: self.regressions,
            Status.BAD_INPUT: self.bad_input,
            Status.NOT_MEASURED: self.unmeasured,
        }
        parts = [f"{MEANINGS[kind]}: {', '.join(reasons)}" for kind, reasons in told.items() if reasons]
        parts = parts or [f"{MEANINGS[Status.FINE]}: {_cells(self.cells)}"]
        return f"{self.of}: {self.status.value}, " + "; ".join([*parts, *map(str, self.summaries)])

    def judge(self, results: RunResults) -> bool:
        """Take up the verdicts of a run, and return whether one of them is bad."""
        self.cells += len(results.cells)
        cells = [cell for cell in results.cells if not cell.recorded]
        worse = _by_verdict([cell for cell in cells if cell.verdict in WORSE])
        unmeasured = _by_verdict([cell for cell in cells if not cell.verdict.is_measured])
        self.regressions += worse
        self.unmeasured += unmeasured
        return bool(worse or unmeasured)

    def keep(self, results: RunResults, store: Path, suite: str) -> None:
        """Add a run to the history, and look for what no single run shows."""
        # scipy.stats takes a second to import, which every other command would wait for.
        from hybrid_ops.regression.history.search import open_regressions

        measured = {(cell.case, cell.metric) for cell in results.cells}
        try:
            with History(store) as history:
                history.add(results, suite)
                if (before := history.run_before(results.run_id)) is not None:
                    told = differences(history.facts(before), history.facts(results.run_id))
                    print(f"since {before}: {told}", flush=True)
                chosen = history.series(device=results.device.device_class)
                found = open_regressions(history, [one for one in chosen if (one.case, one.metric) in measured])
                for change in found:
                    print("\n".join(change.lines(history)), flush=True)
        except InputError as error:
            self.unmeasured.append(str(error))
            return
        for kind, count in Counter(change.change.kind for change in found).items():
            self.regressions.append(f"{_cells(count)} with a {kind} for the worse")


def check_history(store: Path) -> None:
    """Make the history where there is none yet. Raises InputError where a run could not be kept in it or compared."""
    if importlib.util.find_spec("otava") is None:
        raise InputError("change points need apache-otava: install the extra `history`")
    with History(store, create=True):
        pass


def tell_workflow(findings: Findings, costs: Sequence[str]) -> None:
    """Show the summaries on the page of a GitHub Actions job, where this is one."""
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if not page:
        return
    parts = [findings.last_line, *costs, *(path.read_text(encoding="utf-8") for path in findings.summaries)]
    try:
        with Path(page).open("a", encoding="utf-8") as file:
            file.write("\n\n".join(parts))
    except OSError as error:
        problem = f"{page}: the job's summary cannot be written: {error.strerror}"
        print(f"hybrid-perf {findings.of}: {problem}", file=sys.stderr)


def _cells(count: int) -> str:
    return f"{count} cell" + ("" if count == 1 else "s")


def _by_verdict(cells: Sequence[CellResult]) -> list[str]:
    """`3 cells slower (llama-tiny/short)` for each verdict."""
    found = []
    for verdict in Verdict:
        cases = [cell.case for cell in cells if cell.verdict is verdict]
        names = list(dict.fromkeys(cases))
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        if cases:
            found.append(f"{_cells(len(cases))} {verdict.value} ({', '.join(names[:MOST_NAMES])}{more})")
    return found
