"""What the terminal shows at the end of a run: each cause once, in the report, and nothing of it again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hybrid_ops.plugin.state import FOLDER, TOLD
from hybrid_ops.regression.results import RESULTS_FILE, RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report import Told
from hybrid_ops.report.page.report import PAGE_FILE
from hybrid_ops.report.render import terminal_lines
from hybrid_ops.report.report import Style
from hybrid_ops.report.table import counts

COLOURS = {Style.GOOD: "green", Style.BAD: "red", Style.WARNING: "yellow"}
NEEDS_GPU = "needs a GPU"
SKIPPED = "Skipped: "
"""What pytest puts before the reason of a skip."""


@contextmanager
def without_explained(reporter: pytest.TerminalReporter, is_verbose: bool) -> Iterator[None]:
    """Let pytest leave out the failures and errors that are verdicts: the report tells their causes, each once.

    JUnit has each testcase's own message, and so has the terminal with `-v`. The counts of the last line stay.
    """
    if is_verbose:
        yield
        return
    everything = {outcome: reporter.stats.get(outcome, []) for outcome in ("failed", "error")}
    for outcome, reports in everything.items():
        reporter.stats[outcome] = [report for report in reports if not _is_verdict(report)]
    try:
        yield
    finally:
        for outcome, reports in everything.items():
            if reports:
                reporter.stats[outcome] = reports
            else:
                reporter.stats.pop(outcome, None)


def _is_verdict(report: pytest.TestReport) -> bool:
    """Whether a testcase failed of its cell's verdict, and not of what else its test does."""
    properties = dict(report.user_properties)
    case, metric, verdict = (properties.get(name) for name in ("case", "metric", "verdict"))
    return verdict is not None and str(report.longrepr).startswith(f"{case} {metric}: {verdict}")


def write_skips(reporter: pytest.TerminalReporter) -> None:
    """Say once why all tests of a GPU were skipped."""
    reasons = [report.longrepr[2] for report in reporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    without_gpu = Counter(reason for reason in reasons if reason.startswith(SKIPPED + NEEDS_GPU))
    for reason, count in without_gpu.items():
        reporter.write_line(f"{count} performance tests skipped: {reason.removeprefix(SKIPPED)}", yellow=True)


def write_report(reporter: pytest.TerminalReporter, config: pytest.Config, results: RunResults) -> None:
    """What every report says of the run, and at the end where all of it is to be read."""
    is_first = True
    for told in config.stash[TOLD]:
        _write_section(reporter, told, "=" if is_first else "-", config.option.verbose > 0)
        is_first = False
    missing = sum(result.verdict is Verdict.MISSING_BASELINE for result in results.cells)
    if missing and results.update is None:
        reporter.write_line(
            f"{missing} cells have no baseline for {results.device.device_class}: "
            "record them with pytest --perf --update-baselines",
            yellow=True,
        )
    reporter.write_line(f"{counts(results.cells)} in {results.seconds:.0f} s")
    reporter.write_line(f"results: {config.stash[FOLDER] / RESULTS_FILE}")
    if (page := config.stash[FOLDER] / PAGE_FILE).is_file():
        reporter.write_line(f"page: {os.path.relpath(page)}")


def _write_section(reporter: pytest.TerminalReporter, told: Told, separator: str, is_verbose: bool) -> None:
    """What one report says, and under it the files that it wrote or why it could not."""
    if told.section is not None:
        reporter.section(told.section.title, sep=separator)
        for line, style in terminal_lines(told.section, is_verbose):
            reporter.write_line(line, **({COLOURS[style]: True} if style in COLOURS else {}))
        for path in told.files:
            reporter.write_line(os.path.relpath(path))
    if told.problem is not None:
        reporter.write_line(told.problem, red=True)
