"""The verdicts of a run: its table, why each was reached, and what cells show together."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.causes import Cause, causes
from hybrid_ops.report.commands import accept, measure_again
from hybrid_ops.report.report import Block, Command, Lines, Report, Section, Shown, Style, Table
from hybrid_ops.report.table import ARM_COLUMNS, COLUMNS, result_rows

STYLES = {
    "passed": Style.GOOD,
    "failed": Style.BAD,
    "error": Style.BAD,
    "skipped": Style.WARNING,
    "xfailed": Style.WARNING,
}
"""How a testcase's outcome is shown."""


class Verdicts(Report):
    """The table of cells, brief or whole."""

    name: ClassVar[str] = "verdicts"

    def section(self, run: RunResults) -> Section | None:
        if not run.cells:
            return None
        notes = [f"note: {finding}" for finding in run.findings]
        blocks: list[Block] = []
        for shown, every_cell in ((Shown.BRIEF, False), (Shown.VERBOSE, True)):
            rows = result_rows(run.cells, every_cell)
            blocks += [
                Table(
                    ARM_COLUMNS if run.arms is not None else COLUMNS,
                    [row for row, _ in rows],
                    [STYLES[verdict.outcome] for _, verdict in rows],
                    shown,
                ),
            ]
            for cause in causes(run.cells, every_cell):
                blocks += _told(run, cause, shown)
        return Section("performance", [*blocks, Lines(notes)])


def _told(run: RunResults, cause: Cause, shown: Shown) -> list[Block]:
    """A cause in one block: what and why, where the engine's log is, and the commands that come next."""
    blocks: list[Block] = [Lines([cause.text], STYLES[cause.verdict.outcome], shown)]
    if not cause.verdict.is_bad:
        return blocks
    logs = list(dict.fromkeys(_from_here(cell.log) for cell in cause.cells if cell.log is not None))
    if logs:
        more = f" (and {len(logs) - 1} more)" if len(logs) > 1 else ""
        blocks.append(Lines([f"    engine log: {logs[0]}{more}"], shown=shown))
    for purpose, command in (("measure again", measure_again), ("accept, if it is intended", accept)):
        if (line := command(run, cause.cells)) is not None:
            blocks.append(Command(purpose, line, shown))
    return blocks


def _from_here(path: str) -> str:
    """A path below the current folder as seen from there; another one as it is."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
