"""Progress of a run on the terminal, also where several processes share the run.

Whoever measures appends lines to a file, and one thread of the process that has the terminal shows them. On a terminal
what is done now is one live line, which is drawn anew; where the output is none every line stays.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from hybrid_ops.run.progress import is_step

PROGRESS_FILE = "progress.log"
DRAWN_EVERY = 0.5
"""Seconds between two looks at the file, and two drawings of the live line."""


class ProgressFile:
    """The lines of a run's progress, and what shows them. Also a plugin of pytest."""

    def __init__(self, path: Path, config: pytest.Config) -> None:
        self.path = path
        self.config = config
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def start(self) -> None:
        """Show what is told from now on, in a process that has a terminal."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            self.path.touch()
            self._thread = threading.Thread(target=self._show, args=(Display(reporter),), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Show the last lines and leave the terminal to pytest. Once it has, there is nothing to stop."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def pytest_runtest_logstart(self) -> None:
        """When testcases begin all is measured, and under pytest-xdist nobody else says so."""
        self.stop()

    def _show(self, display: Display) -> None:
        with self.path.open(encoding="utf-8") as file:
            ended = False
            while not ended:
                ended = self._ended.wait(DRAWN_EVERY)  # once more after the end, for the last lines
                for line in file:
                    display.show(line.rstrip("\n"))
                display.draw()
        display.erase()


class Display:
    """Lines on pytest's own writer to the terminal."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._is_live = bool(reporter.isatty)
        self._step: str | None = None
        self._since = 0.0

    def show(self, line: str) -> None:
        """A line of progress: what is done now takes the place of what was done before."""
        if self._is_live and is_step(line):
            self._step, self._since = line, time.monotonic()
        else:
            self.erase()
            self._reporter.write_line(line)

    def draw(self) -> None:
        """Draw the live line, with the seconds since its step began."""
        if self._step is not None:
            text = f"{self._step} ({time.monotonic() - self._since:.0f} s)"
            self._reporter.rewrite(text[: shutil.get_terminal_size().columns - 1], erase=True)

    def erase(self) -> None:
        """Take the live line away, until it is drawn again."""
        if self._step is not None:
            self._reporter.rewrite("", erase=True)
            self._reporter.rewrite("")
