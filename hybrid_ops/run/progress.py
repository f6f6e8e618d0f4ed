"""How far a run is: what it does now, the launches done and left, and the time that the rest will take."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from hybrid_ops.measure.records import Record
from hybrid_ops.run.rounds import PlannedLaunch, Round

MOST_EARLIER_RUNS = 20
"""In how many earlier runs an engine's launches are looked for, the newest first."""


@dataclass(frozen=True)
class Step:
    """What a run does at this moment."""

    round: int
    done: int
    left: int
    """Launches of this round that are not done, the present one included."""
    seconds_left: float | None
    """What they will take; None while nothing like them was measured."""
    engine: str
    what: str

    def __str__(self) -> str:
        if self.seconds_left is None:
            time = "no time known yet"
        elif self.seconds_left < 100:
            time = f"about {self.seconds_left:.0f} s"
        else:
            time = f"about {self.seconds_left / 60:.1f} min"
        return f"[round {self.round}: {self.done} done, {self.left} left, {time}] {self.engine}: {self.what}"


class StepTeller:
    """Tells what is done in one launch, with how far the round is and how long the rest of it will take."""

    def __init__(
        self,
        tell: Callable[[str], None],
        times: LaunchTimes,
        current: Round,
        planned: PlannedLaunch,
        open_launches: Sequence[PlannedLaunch],
        at_once: int,
    ) -> None:
        """`open_launches` are those of the round that are not done, with this one; so many are made `at_once`."""
        self._tell = tell
        self._round = current
        self._planned = planned
        self._left = len(open_launches)
        self._at_once = at_once
        self._begun = time.monotonic()
        others = [(one.launch_name, one.cases) for one in open_launches if one is not planned]
        self._others = times.together(others)
        self._own = times.together([(planned.launch_name, planned.cases)])

    def __call__(self, what: str) -> None:
        seconds = None
        if self._others is not None and self._own is not None:
            own = max(0.0, self._own - (time.monotonic() - self._begun))
            seconds = (own + self._others) / self._at_once
        done = len(self._round.launches) - self._left
        self._tell(str(Step(self._round.number, done, self._left, seconds, self._planned.launch_name, what)))


def is_step(line: str) -> bool:
    """Whether a line of progress says what is done now, rather than something to keep in sight."""
    return line.startswith("[round ")


@dataclass
class _Measured:
    """What launches of one engine took in seconds."""

    loading: list[float] = field(default_factory=list)
    """All but the cases."""
    cases: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: float, cases: Mapping[str, float | None]) -> None:
        known = {case: taken for case, taken in cases.items() if taken is not None}
        self.loading.append(max(0.0, seconds - sum(known.values())))
        for case, taken in known.items():
            self.cases.setdefault(case, []).append(taken)


class LaunchTimes:
    """What launches take: as this run has measured them, else as the newest earlier run did."""

    def __init__(self, folder: Path, is_pair: bool) -> None:
        """`folder` is that of this run; the earlier ones lie beside it. `is_pair`: it launches pairs of arms."""
        self._folder = folder
        self._is_pair = is_pair
        self._own: dict[str, _Measured] = {}
        self._earlier: dict[str, _Measured] = {}
        self._seconds: list[float] = []

    def learn(self, record: Record) -> None:
        """Keep what a launch, or a launch pair, of this run took."""
        self._seconds.append(record.seconds)
        cases = {case: seen.seconds for case, seen in record.launches[0].cases.items()}
        self._own.setdefault(record.launch_name, _Measured()).add(record.seconds, cases)

    def expected(self, launch_name: str, cases: Sequence[str]) -> float | None:
        """Seconds of a launch that measures `cases`; None where no launch of the engine was measured."""
        own = self._own.get(launch_name, _Measured())
        if launch_name not in self._earlier:
            self._earlier[launch_name] = self._read_earlier(launch_name)
        earlier = self._earlier[launch_name]
        loading = own.loading or earlier.loading
        if not loading:
            return None
        known = {**earlier.cases, **own.cases}
        others = [fmean(taken) for taken in known.values()]
        # A case that was never measured is taken to last as long as the engine's others.
        times = [fmean(known[case]) if case in known else fmean(others or [0.0]) for case in cases]
        return fmean(loading) + sum(times)

    def together(self, launches: Sequence[tuple[str, Sequence[str]]]) -> float | None:
        """Seconds of several launches, by name and cases; None where nothing was measured.

        An engine that was never launched is taken to be as slow as the others.
        """
        expected = [self.expected(name, cases) for name, cases in launches]
        known = [seconds for seconds in expected if seconds is not None] or self._seconds
        if launches and not known:
            return None
        return sum(fmean(known) if seconds is None else seconds for seconds in expected)

    def _read_earlier(self, launch_name: str) -> _Measured:
        measured = _Measured()
        runs = sorted(path for path in self._folder.parent.glob("*/launches") if path.parent != self._folder)
        for launches in runs[::-1][:MOST_EARLIER_RUNS]:
            for path in launches.glob(f"{launch_name}/*/record.json"):
                _add_earlier(measured, path, self._is_pair)
            if measured.loading:
                break
        return measured


def _add_earlier(measured: _Measured, path: Path, is_pair: bool) -> None:
    """Add what a record of an earlier run says; nothing for one that cannot be read, which only costs an estimate."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if is_pair == ("arms" in record):
            cases = (record["arms"][0] if is_pair else record)["cases"]
            measured.add(record["seconds"], {case: seen["seconds"] for case, seen in cases.items()})
    except (OSError, ValueError, KeyError):
        return
