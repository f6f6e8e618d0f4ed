"""What the terminal shows at the end of a run: the table, the reasons, and what each kind of suite adds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _pytest.terminal import TerminalReporter

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.comparison import comparison_text
from hybrid_ops.report.numbers import show
from hybrid_ops.report.rollout import rollout_text
from hybrid_ops.report.serving import serving_text
from hybrid_ops.report.table import ARM_COLUMNS, COLUMNS, aligned, counts, reason_lines, result_rows


def write_report(
    reporter: TerminalReporter, document: dict[str, Any], folder: Path, every_cell: bool, plotted: Sequence[str]
) -> None:
    """Write the end of a run from its `results.json`. `plotted`: the files of a comparison, or why there are none."""
    results = [CellResult.from_json(cell) for cell in document["cells"]]
    if not results:
        return
    reporter.section("performance")
    _write_table(reporter, results, every_cell, document["arms"] is not None)
    for finding in document["findings"]:
        reporter.write_line(f"note: {finding}")
    if document["update"] is not None:
        _write_update(reporter, document["update"])
    if text := rollout_text(document):
        reporter.section("rollouts", sep="-")
        reporter.write_line(text)
    if text := comparison_text(document):
        reporter.section("full, sliding-window and hybrid attention", sep="-")
        reporter.write_line(text)
        for line in plotted:
            reporter.write_line(os.path.relpath(line) if line.startswith("/") else line)
    if text := serving_text(document):
        reporter.section("serving", sep="-")
        table = text.partition("\n\n")[0]
        reporter.write_line(text if every_cell else table)
        if not every_cell:
            reporter.write_line(f"every result block: -v, or {folder / 'serving.txt'}")
    missing = sum(result.verdict is Verdict.MISSING_BASELINE for result in results)
    if missing and document["update"] is None:
        reporter.write_line(
            f"{missing} cells have no baseline for {document['device']['class']}: "
            "record them with pytest --perf --update-baselines",
            yellow=True,
        )
    reporter.write_line(f"{counts(results)} in {document['seconds']:.0f} s")
    reporter.write_line(f"results: {folder / 'results.json'}")


def _write_table(reporter: TerminalReporter, results: Sequence[CellResult], every_cell: bool, arms: bool) -> None:
    rows = result_rows(results, every_cell)
    lines = aligned([ARM_COLUMNS if arms else COLUMNS, *(row for row, _ in rows)])
    reporter.write_line(lines[0], bold=True)
    colours = {"passed": "green", "failed": "red", "error": "red", "skipped": "yellow", "xfailed": "yellow"}
    for line, (_, verdict) in zip(lines[1:], rows):
        reporter.write_line(line, **{colours[verdict.outcome]: True})
    for line in reason_lines(results, every_cell):
        reporter.write_line(line)


def _write_update(reporter: TerminalReporter, update: dict[str, Any]) -> None:
    first = [entry for entry in update["written"] if entry["old"] is None]
    changed = [entry for entry in update["written"] if entry["old"] not in (None, entry["new"])]
    same = len(update["written"]) - len(first) - len(changed)  # as before, of a case that is now defined otherwise
    reporter.section("baselines updated", sep="-")
    for entry in changed:
        old, new = show(entry["old"], entry["unit"]), show(entry["new"], entry["unit"])
        reporter.write_line(f"{entry['case']} {entry['metric']}: {old} → {new}")
    files = sorted({entry["file"] for entry in update["written"]})
    reporter.write_line(
        f"{len(first)} recorded for the first time, {len(changed)} changed, {same} confirmed, "
        f"{len(update['kept'])} portable ones kept, {len(update['refused'])} refused"
    )
    for name, reason in update["refused"].items():
        reporter.write_line(f"refused {name}: {reason}", red=True)
    for file in files:
        reporter.write_line(f"wrote {os.path.relpath(file)}")
