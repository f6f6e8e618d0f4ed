"""The time that a run may spend on launching undecided cells again."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hybrid_ops.errors import InputError


class Budget:
    """Seconds for a run, or for all runs of a night, less those that it waited for devices that others held."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = time.monotonic()
        self._waited = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 once they are spent."""
        return self.seconds - (self.elapsed - self._waited)

    @property
    def option(self) -> str:
        """What is left of it, as an option of pytest. One second stands for nothing, which pytest would refuse."""
        return f"--perf-budget={max(1, round(self.left))}s"

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A time of waiting that is no part of the budget."""
        asked = time.monotonic()
        yield
        self._waited += time.monotonic() - asked


@dataclass
class Fit:
    """What is launched again in the time that is left, and what is not."""

    chosen: list[str] = field(default_factory=list)
    left_out: dict[str, float] = field(default_factory=dict)
    """The specs for which too little time was left, and how many seconds that was."""


def fitting(open_cells: Counter[str], launch_seconds: Mapping[str, float], seconds_left: float) -> Fit:
    """Choose the specs to launch again, those with the most open cells first.

    `launch_seconds` says how long a launch of each spec takes. One that does not fit makes way for those after it.
    """
    fit = Fit()
    for name, _ in open_cells.most_common():
        if launch_seconds[name] <= seconds_left:
            fit.chosen.append(name)
            seconds_left -= launch_seconds[name]
        else:
            fit.left_out[name] = seconds_left
    return fit


def seconds(text: str, option: str) -> float:
    """`90s`, `15m`, `2h` or a plain number of seconds. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(f"{option}: a time such as 90s, 15m or 2h, not {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
