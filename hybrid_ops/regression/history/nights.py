"""The nights of a history: which runs they were, what each said of its cells, and which of them was told to whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hybrid_ops.errors import InputError
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.verdicts import Verdict

SERVING_SUITE = "serving"
"""The suite of a night's second run, whose name ends with it: a night is the runs `ID` and `ID-serving`."""

NO_NIGHT = ""
"""Stands for the time before the first night, in what a receiver was told."""


@dataclass(frozen=True)
class StoredRun:
    """A run that the history keeps, or the gap that it left."""

    name: str
    started: datetime
    suite: str | None
    """None for a run that was added by hand."""
    device: str
    """Its device class; empty for a gap."""
    problem: str | None
    """Why it left no results; None where it did."""

    @property
    def night(self) -> str:
        return self.name.removesuffix(f"-{SERVING_SUITE}")


@dataclass(frozen=True)
class StoredNight:
    """The runs of one night, in order of time."""

    name: str
    runs: Sequence[StoredRun]


@dataclass(frozen=True)
class StoredCell:
    """What one run said of a cell."""

    case: str
    metric: str
    unit: str
    kind: str
    direction: str
    engine: str | None
    """The name of its launches, where that was kept."""
    verdict: Verdict
    value: Value | None
    baseline: Value | None
    tolerance: float | None
    reason: str | None
    """Why it could not be measured, where that was kept."""


class Nights:
    """The nights of one device class. The gaps of a suite that it has measured are its own too."""

    def __init__(self, history: History, device: str, nights: Sequence[StoredNight]) -> None:
        self.history = history
        self.device = device
        self.nights = nights
        """Oldest first; there is at least one."""

    def told(self, receiver: str) -> int | None:
        """How many of the nights, from the first, a receiver was told of; None where that is not kept."""
        rows = self.history.read("SELECT night FROM told WHERE receiver = ? AND device = ?", (receiver, self.device))
        names = [NO_NIGHT, *(night.name for night in self.nights)]
        return names.index(rows[0][0]) if rows and rows[0][0] in names else None

    def tell(self, receiver: str, told: int) -> None:
        """Keep that a receiver has been told of the first so many nights."""
        night = self.nights[told - 1].name if told else NO_NIGHT
        self.history.write("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", (receiver, self.device, night))


def stored_runs(history: History) -> list[StoredRun]:
    """All runs and gaps, oldest first."""
    rows = history.read("SELECT name, started, suite, device, problem FROM run ORDER BY started, name")
    return [StoredRun(name, datetime.fromtimestamp(when, UTC), *rest) for name, when, *rest in rows]


def nights_until(history: History, night: str | None = None, device: str | None = None) -> Nights:
    """The nights of a device class up to `night`, which is the newest one unless it is named.

    The device class is that of the last night. Runs that were added by hand have no suite; they are nights of their
    own, apart from those that `hybrid-perf night` has kept. Raises InputError where there is no such night.
    """
    runs = [run for run in stored_runs(history) if device is None or run.device in (device, "")]
    last = runs[-1].night if runs and night is None else night
    own = [run for run in runs if run.night == last]
    if not own:
        known = ", ".join(list(dict.fromkeys(run.night for run in reversed(runs)))[:3]) or "none"
        raise InputError(f"{history.path}: no night {night or ''} is there; the newest are: {known}")
    if device is None:
        device = _device_of(own, runs)
    by_hand = own[0].suite is None
    measured = {run.suite for run in runs if run.device == device}
    chosen = [
        run
        for run in runs
        if (run.suite is None) is by_hand
        and run.started <= own[-1].started
        and (run.device == device or (run.problem is not None and (run.suite in measured or not measured)))
    ]
    return Nights(history, device, _by_night(chosen))


def _device_of(own: Sequence[StoredRun], runs: Sequence[StoredRun]) -> str:
    """The device class of a night; where it left only gaps, that of the newest run of one of its suites."""
    suites = {run.suite for run in own}
    alike = [run.device for run in runs if run.suite in suites and run.device and run.started <= own[-1].started]
    return next((run.device for run in own if run.device), alike[-1] if alike else "")


def _by_night(runs: Iterable[StoredRun]) -> list[StoredNight]:
    nights: dict[str, list[StoredRun]] = {}
    for run in runs:
        nights.setdefault(run.night, []).append(run)
    return [StoredNight(name, own) for name, own in nights.items()]


def cells_of(history: History, run: StoredRun) -> list[StoredCell]:
    """The cells of a run."""
    # By each series' key, which holds time and run: a search for the run alone would read every point.
    rows = history.read(
        "SELECT cell, metric, unit, kind, direction, engine, verdict, coalesce(value, text), baseline, tolerance, "
        "reason FROM run CROSS JOIN series ON series.device = run.device CROSS JOIN point ON point.series = series.id "
        "AND point.started = run.started AND point.run = run.id WHERE run.name = ? ORDER BY cell, metric",
        (run.name,),
    )
    return [
        StoredCell(case, metric, unit, kind, direction, engine, Verdict(verdict), value, baseline, tolerance, reason)
        for case, metric, unit, kind, direction, engine, verdict, value, baseline, tolerance, reason in rows
    ]
