"""A night: measure, keep the history, look for changes, and end with a status that tells one thing. docs/nightly.md."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Self

from hybrid_ops.engines.devices import gpus, why_no_gpu
from hybrid_ops.errors import InputError
from hybrid_ops.measure.store import new_run_id
from hybrid_ops.regression.history.nights import SERVING_SUITE
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RESULTS_FILE, RunResults, read_results
from hybrid_ops.report.page.report import page_line
from hybrid_ops.report.summary import SUMMARY_FILE
from hybrid_ops.run.budget import Budget
from hybrid_ops.run.status import Findings, check_history

DEVICE_ARGUMENTS = {
    "cpu": ["--perf-device=cpu"],
    "cuda": ["--perf-require-gpu", "-m", "gpu"],
}
DEVICE_SUITES = {"cpu": "standard", "cuda": "full"}
SERVING_LOAD = "serving-random"
PYTEST_FAILED, PYTEST_USAGE = 1, 4
PYTEST_ENDS = {
    2: "pytest was interrupted",
    3: "pytest had an internal error",
    5: "nothing was selected",
}
"""What pytest's own statuses say of a run that was not measured to its end."""


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
        check_history(self.options.history)
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
        self.findings.keep(results, self.options.history, part.suite)
        print(page_line(results, folder, self.options.history), flush=True)

    def _problem(self, ended: int) -> str | None:
        """Why a run that ended so was not measured to its end; None where it was."""
        if self._programs.is_interrupted:
            return "interrupted"
        if ended < 0:
            return f"pytest was killed by {signal.Signals(-ended).name}"
        return PYTEST_ENDS.get(ended)

    def _judge(self, part: Part, ended: int, results: RunResults) -> None:
        is_explained = self.findings.judge(results)
        if ended == PYTEST_FAILED and not is_explained:
            self.findings.regressions.append(f"{part.suite}: a testcase failed beside the cells")

    def _leave_gap(self, part: Part, started: datetime, problem: str) -> None:
        self.findings.unmeasured.append(f"{part.suite}: {problem}")
        try:
            with History(self.options.history) as history:
                history.add_gap(part.run_id, started, part.suite, problem)
        except InputError as error:
            self.findings.unmeasured.append(str(error))
