"""A night: measure, keep the history, look for changes, and end with a status that tells one thing. docs/nightly.md."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any, Self

from hybrid_ops.engines.devices import gpus, why_no_gpu
from hybrid_ops.errors import InputError
from hybrid_ops.measure.store import new_run_id
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.cost import Cost
from hybrid_ops.regression.history.differences import differences
from hybrid_ops.regression.history.nights import SERVING_SUITE
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RESULTS_FILE, RunResults, read_results
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.page.report import page_line
from hybrid_ops.report.summary import SUMMARY_FILE
from hybrid_ops.run.budget import Budget

DEVICE_ARGUMENTS = {
    "cpu": ["--perf-device=cpu"],
    "cuda": ["--perf-require-gpu", "-m", "gpu"],
}
DEVICE_SUITES = {"cpu": "standard", "cuda": "full"}
SERVING_LOAD = "serving-random"
WORSE = (Verdict.SLOWER, Verdict.CHANGED, Verdict.UNEXPECTED_SUCCESS)
MOST_NAMES = 3
"""How many cases the last line names for each verdict."""
PYTEST_FAILED, PYTEST_USAGE = 1, 4
PYTEST_ENDS = {
    2: "pytest was interrupted",
    3: "pytest had an internal error",
    5: "nothing was selected",
}
"""What pytest's own statuses say of a run that was not measured to its end."""


class Status(IntEnum):
    """How a night ends."""

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


@dataclass(frozen=True)
class NightOptions:
    """What is asked of a night."""

    device: str
    """`cpu` or `cuda`."""
    results: Path
    suite: str | None = None
    """None for that of the device."""
    store: Path | None = None
    """The history; None for `history.sqlite` beside the results."""
    serving: str | None = SERVING_LOAD
    """Which cases of the serving suite a second run measures, as pytest's `-k` has it; None for no second run."""
    arguments: Sequence[str] = ()
    """Further arguments of pytest."""
    budget_seconds: float | None = None
    """The budget of all runs together; None for that of each suite."""

    @property
    def history(self) -> Path:
        return self.store or self.results / "history.sqlite"


@dataclass(frozen=True)
class Part:
    """One pytest run of a night."""

    run_id: str
    suite: str
    arguments: list[str]


@dataclass
class Findings:
    """What a night found, in words, by what it means for whoever is woken."""

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
        return f"night: {self.status.value}, " + "; ".join([*parts, *map(str, self.summaries)])


class Interruptible:
    """Runs programs, and passes Ctrl-C and requests to end on to the one that runs, so that it can clean up.

    The program has a process group of its own: it is told once, whether the terminal told its whole group or someone
    told the night alone.
    """

    def __init__(self) -> None:
        self.is_interrupted = False
        self._child: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup asks for
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str]) -> int:
        """Run a program to its end and return its status; below 0 where a signal killed it."""
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        if self.is_interrupted:  # while the program was started
            self._interrupt_child()
        return self._child.wait()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_interrupted = True
        self._interrupt_child()

    def _interrupt_child(self) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGINT)


class Night:
    """The runs of one night, what they found, and their place in the history."""

    def __init__(self, options: NightOptions) -> None:
        self.options = options
        self.run_id = new_run_id()
        self.findings = Findings()
        self._budget = None if options.budget_seconds is None else Budget(options.budget_seconds)
        self._programs = Interruptible()

    def run(self) -> Findings:
        """Measure, keep and judge. Raises InputError for what is wrong before anything was measured."""
        if importlib.util.find_spec("otava") is None:
            raise InputError("change points need apache-otava: install the extra `history`")
        with History(self.options.history, create=True):
            pass  # one that cannot be used is found now, not after hours
        with self._programs:
            for part in self.parts():
                if not (self._programs.is_interrupted or self.findings.bad_input):
                    self._run_part(part)
        return self.findings

    def parts(self) -> list[Part]:
        """The suite, and a load on servers. `-k` among the further arguments chooses cases of the first."""
        options = self.options
        parts = [self._part(self.run_id, options.suite or DEVICE_SUITES[options.device])]
        if options.serving is not None:
            parts.append(self._part(f"{self.run_id}-{SERVING_SUITE}", SERVING_SUITE, "-k", options.serving))
        return parts

    def _part(self, run_id: str, suite: str, *chosen: str) -> Part:
        # With `=`: pytest takes a folder that stands alone for a place to look for tests and its configuration.
        named = [f"--perf-suite={suite}", f"--perf-results={self.options.results}", f"--perf-run-id={run_id}"]
        named.append(f"--perf-history={self.options.history}")
        return Part(run_id, suite, [*DEVICE_ARGUMENTS[self.options.device], *self.options.arguments, *named, *chosen])

    def _run_part(self, part: Part) -> None:
        started = datetime.now(UTC)
        if self.options.device == "cuda" and not gpus():
            self._leave_gap(part, started, f"no GPU: {why_no_gpu()}")
            return
        budget = [] if self._budget is None else [self._budget.option]
        ended = self._programs.run([sys.executable, "-m", "pytest", "--perf", *part.arguments, *budget])
        if ended == PYTEST_USAGE:
            self.findings.bad_input.append(f"{part.suite}: pytest refused it, for the reason above")
            return
        folder = self.options.results / part.run_id
        results = read_results(folder) if (folder / RESULTS_FILE).is_file() else None
        problem = self._problem(ended)
        if results is None or not results.started:
            self._leave_gap(part, started, problem or "nothing was measured")
            return
        if problem is not None:
            self.findings.unmeasured.append(f"{part.suite}: {problem}")
        self._judge(part, ended, results)
        if results.cost is not None:
            self.findings.costs.append(results.cost)
        if (folder / SUMMARY_FILE).is_file():
            self.findings.summaries.append(folder / SUMMARY_FILE)
        self._keep(results, part.suite)
        print(page_line(results, folder, self.options.history), flush=True)

    def _problem(self, ended: int) -> str | None:
        """Why a run that ended so was not measured to its end; None where it was."""
        if self._programs.is_interrupted:
            return "interrupted"
        if ended < 0:
            return f"pytest was killed by {signal.Signals(-ended).name}"
        return PYTEST_ENDS.get(ended)

    def _judge(self, part: Part, ended: int, results: RunResults) -> None:
        findings = self.findings
        findings.cells += len(results.cells)
        cells = [cell for cell in results.cells if not cell.recorded]
        worse = _by_verdict([cell for cell in cells if cell.verdict in WORSE])
        unmeasured = _by_verdict([cell for cell in cells if not cell.verdict.is_measured])
        findings.regressions += worse
        findings.unmeasured += unmeasured
        if ended == PYTEST_FAILED and not worse and not unmeasured:
            findings.regressions.append(f"{part.suite}: a testcase failed beside the cells")

    def _keep(self, results: RunResults, suite: str) -> None:
        """Add a run to the history, and look for what no single night shows."""
        # scipy.stats takes a second to import, which every other command would wait for.
        from hybrid_ops.regression.history.search import open_regressions

        measured = {(cell.case, cell.metric) for cell in results.cells}
        try:
            with History(self.options.history) as history:
                history.add(results, suite)
                if (before := history.run_before(results.run_id)) is not None:
                    told = differences(history.facts(before), history.facts(results.run_id))
                    print(f"since {before}: {told}", flush=True)
                chosen = history.series(device=results.device.device_class)
                found = open_regressions(history, [one for one in chosen if (one.case, one.metric) in measured])
                for change in found:
                    print("\n".join(change.lines(history)), flush=True)
        except InputError as error:
            self.findings.unmeasured.append(str(error))
            return
        for kind, count in Counter(change.change.kind for change in found).items():
            self.findings.regressions.append(f"{_cells(count)} with a {kind} for the worse")

    def _leave_gap(self, part: Part, started: datetime, problem: str) -> None:
        self.findings.unmeasured.append(f"{part.suite}: {problem}")
        try:
            with History(self.options.history) as history:
                history.add_gap(part.run_id, started, part.suite, problem)
        except InputError as error:
            self.findings.unmeasured.append(str(error))


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
