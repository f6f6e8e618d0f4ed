"""The next launch's worker, started beside the present one.

Half of a short launch is one processor importing the engine. Two workers that start together import at the same time;
one is used at once, the other waits, idle, for the launch that follows. Each launch still has a process of its own.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid_ops.engines.worker import Worker, WorkerError


class Standby:
    """Workers for launches that follow each other. At most one waits.

    Parameters
    ----------
    folder: where a waiting worker keeps its files, of this object alone; made if needed and removed by `close`
    """

    def __init__(self, folder: Path) -> None:
        self.another_follows = False
        """Whether a launch follows the one that asks next for a worker."""
        self._folder = folder
        self._waiting: Worker | None = None
        self._kind: tuple[object, ...] = ()
        self._started = 0

    def worker(
        self,
        program: Path,
        folder: Path,
        interpreter: str = sys.executable,
        environment: Mapping[str, str | None] | None = None,
        cores: Sequence[int] = (),
    ) -> Worker:
        """A worker as `Worker` makes it: the one that waits, or a new one and beside it the one for the next launch.

        Raises WorkerError.
        """
        kind = (program, interpreter, dict(environment or {}), tuple(cores))
        if self._waiting is not None and kind == self._kind and self._waiting.process.poll() is None:
            worker, self._waiting = self._waiting, None
            worker.log_to(folder)
            return worker
        self._dismiss()
        worker = Worker(program, folder, interpreter, environment, cores)
        # Bound to the same cores, two that import at the same time take as long as one after the other.
        if self.another_follows and not cores:
            self._started += 1
            with contextlib.suppress(WorkerError):  # then the next launch starts its own, and says what is wrong
                self._waiting = Worker(program, self._folder / str(self._started), interpreter, environment)
                self._kind = kind
        return worker

    def settle(self, deadline_seconds: float) -> None:
        """Return when the worker that waits, if any, has imported its engine and leaves the machine in peace."""
        if self._waiting is not None:
            try:
                self._waiting.request("ready", deadline_seconds)
            except WorkerError:
                self._dismiss()

    def close(self) -> None:
        """End the worker that waits and remove what it left."""
        self._dismiss()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _dismiss(self) -> None:
        if self._waiting is not None:
            self._waiting.kill()  # it holds nothing yet that a polite end would save
            self._waiting.close()
            self._waiting = None
