"""Progress of a run on the terminal, also where several processes share the run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRESS_FILE = "progress.log"


class ProgressFile:
    """Progress of a run that several processes share: they append lines, the controller shows them."""

    def __init__(self, path: Path, config: pytest.Config) -> None:
        self.path = path
        self.config = config
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def tell(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._ended.set()
            self._thread.join()

    def _show(self) -> None:
        self.path.touch()
        reporter = terminal_reporter(self.config)
        with self.path.open(encoding="utf-8") as file:
            ended = False
            while not ended:
                ended = self._ended.wait(0.5)  # once more after the end, for the last lines
                for line in file:
                    if reporter is not None:
                        reporter.write_line(line.rstrip("\n"))


def terminal_reporter(config: pytest.Config) -> pytest.TerminalReporter | None:
    """Pytest's own writer to the terminal; None in a worker of pytest-xdist."""
    return config.pluginmanager.get_plugin("terminalreporter")


def teller(progress: ProgressFile, config: pytest.Config, is_shared: bool) -> Callable[[str], None]:
    """What tells a line of progress: to the file, and where the run is not shared to the terminal at once."""
    if is_shared:
        return progress.tell

    def tell(text: str) -> None:
        reporter = terminal_reporter(config)
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(text)
        progress.tell(text)

    return tell
