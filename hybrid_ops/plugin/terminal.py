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
from hybrid_ops.report.render import terminal_lines, wrapped
from hybrid_ops.report.report import Style
from hybrid_ops.report.run_plots import PLOTS_FOLDER
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
    """Whether a testcase failed of its cell's verdict, or of a GPU that is not there, and not of what else it does."""
    properties = dict(report.user_properties)
    case, metric, verdict = (properties.get(name) for name in ("case", "metric", "verdict"))
    said = str(report.longrepr)
    return said.startswith(NEEDS_GPU) or (verdict is not None and said.startswith(f"{case} {metric}: {verdict}"))


def write_unmeasured(reporter: pytest.TerminalReporter) -> None:
    """Say once, with their number, why performance testcases have no measurement, where no cell says it."""
    counted: Counter[tuple[str, str]] = Counter()
    for outcome, what in (("skipped", "skipped"), ("error", "failed"), ("failed", "failed")):
        for report in reporter.stats.get(outcome, []):
            said = _said(report)
            is_of_a_cell = "verdict" in dict(report.user_properties)
            if "perf" in report.keywords and not is_of_a_cell and (what == "skipped" or said.startswith(NEEDS_GPU)):
                counted[what, said] += 1
    for (what, said), count in counted.most_common():
        for line in wrapped(f"{count} performance tests {what}: {said}"):
            reporter.write_line(line, yellow=True)


def _said(report: pytest.TestReport) -> str:
    """What a testcase says. That of a skip has its place before it."""
    skip = report.longrepr
    return str(skip[2]).removeprefix(SKIPPED) if isinstance(skip, tuple) else str(skip)


def write_report(reporter: pytest.TerminalReporter, config: pytest.Config, results: RunResults) -> None:
    """What every report says of the run, and at the end where all of it is to be read."""
    is_first = True
    for told in config.stash[TOLD]:
        _write_section(reporter, told, "=" if is_first else "-", config.option.verbose > 0)
        is_first = False
    missing = sum(result.verdict is Verdict.MISSING_BASELINE for result in results.cells)
    if missing and results.update is None:
        unrecorded = f"{missing} cells have no baseline for {results.device.device_class}"
        for line in wrapped(f"{unrecorded}: record them with pytest --perf --update-baselines"):
            reporter.write_line(line, yellow=True)
    reporter.write_line(f"{counts(results.cells)} in {results.seconds:.0f} s")
    for what, name in (("plots", PLOTS_FOLDER), ("results", RESULTS_FILE), ("page", PAGE_FILE)):
        if (path := config.stash[FOLDER] / name).exists():
            reporter.write_line(f"{what}: {os.path.relpath(path)}")


def _write_section(reporter: pytest.TerminalReporter, told: Told, separator: str, is_verbose: bool) -> None:
    """What one report says, and under it the files that it wrote or why it could not."""
    if told.section is not None:
        reporter.section(told.section.title, sep=separator)
        for line, style in terminal_lines(told.section, is_verbose):
            reporter.write_line(line, **({COLOURS[style]: True} if style in COLOURS else {}))
        for path in told.files:
            reporter.write_line(os.path.relpath(path))
    for line in [] if told.problem is None else wrapped(told.problem):
        reporter.write_line(line, red=True)
