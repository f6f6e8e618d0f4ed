"""The time that a run may spend on launching undecided cells again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean


class Budget:
    """Seconds for a run, less those that it waited for devices that others held."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = time.monotonic()
        self._waited = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 once they are spent."""
        return self.seconds - (self.elapsed - self._waited)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A time of waiting that is no part of the budget."""
        asked = time.monotonic()
        yield
        self._waited += time.monotonic() - asked


def fitting(open_cells: Counter[str], durations: Sequence[float], seconds_left: float) -> list[str]:
    """The specs to launch again in the time that is left, those with the most open cells first.

    `durations` are the seconds that launches have taken so far.
    """
    if not open_cells or seconds_left <= 0:
        return []
    return [name for name, _ in open_cells.most_common(int(seconds_left / fmean(durations)))]
