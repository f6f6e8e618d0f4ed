"""The verdicts of a run: its table, why each was reached, and what cells show together."""

from __future__ import annotations

from typing import ClassVar

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.report import Block, Lines, Report, Section, Shown, Style, Table
from hybrid_ops.report.table import ARM_COLUMNS, COLUMNS, reason_lines, result_rows

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
                Lines(reason_lines(run.cells, every_cell), shown=shown),
            ]
        return Section("performance", [*blocks, Lines(notes)])
