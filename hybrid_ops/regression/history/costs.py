"""What the nights in a history cost, in total and by engine, with the trend over the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median

from hybrid_ops.models.sizes import format_table
from hybrid_ops.regression.cost import known_sum
from hybrid_ops.regression.history.store import History

UNKNOWN = "-"


@dataclass(frozen=True)
class Spent:
    """Seconds of the machine and of GPUs; None where they are not known."""

    seconds: float | None
    gpu_seconds: float | None


@dataclass(frozen=True)
class RunCost:
    """What one run cost, or that nobody knows."""

    name: str
    started: datetime
    suite: str | None
    whole: Spent
    engines: dict[str, Spent] = field(default_factory=dict)

    @property
    def night(self) -> str:
        """The night that it is a run of: the second one has the name of the first, and its own suite."""
        return self.name if self.suite is None else self.name.removesuffix(f"-{self.suite}")


@dataclass(frozen=True)
class NightCost:
    """The runs of one night together."""

    runs: Sequence[RunCost]

    @property
    def started(self) -> datetime:
        return self.runs[0].started

    @property
    def whole(self) -> Spent:
        return _sum(run.whole for run in self.runs)

    def of(self, engine: str) -> Spent | None:
        """What an engine cost; None in a night that did not launch it."""
        own = [run.engines[engine] for run in self.runs if engine in run.engines]
        return _sum(own) if own else None


def night_costs(history: History, device: str) -> dict[str, list[NightCost]]:
    """The nights on each device class that matches, oldest first.

    A run that left no results belongs to the device classes that its suite was measured on.
    """
    engines: dict[str, dict[str, Spent]] = {}
    for run, engine, seconds, gpu_seconds in history.read(
        "SELECT name, engine, spent.seconds, spent.gpu_seconds FROM spent JOIN run ON run.id = run ORDER BY engine"
    ):
        engines.setdefault(run, {})[engine] = Spent(seconds, gpu_seconds)
    rows = history.read(
        "SELECT known.device, run.name, run.started, run.suite, run.seconds, run.gpu_seconds "
        "FROM (SELECT DISTINCT device, suite FROM run WHERE problem IS NULL) AS known JOIN run "
        "ON run.suite IS known.suite AND (run.device = known.device OR run.problem IS NOT NULL) "
        "WHERE known.device GLOB ? ORDER BY known.device, run.started, run.name",
        (device,),
    )
    nights: dict[str, dict[str, list[RunCost]]] = {}
    for device_class, name, started, suite, seconds, gpu_seconds in rows:
        when = datetime.fromtimestamp(started, UTC)
        run = RunCost(name, when, suite, Spent(seconds, gpu_seconds), engines.get(name, {}))
        nights.setdefault(device_class, {}).setdefault(run.night, []).append(run)
    return {device: [NightCost(runs) for runs in by_night.values()] for device, by_night in nights.items()}


def cost_table(device: str, nights: Sequence[NightCost]) -> list[str]:
    """A table of the nights on one device class, one of their engines, and one of GPUs where one was used."""
    lines = [
        f"what each night on {device} cost, in minutes; the trend is the newest over the median of those before it",
        "",
        format_table(
            [
                ["", *(f"{night.started:%m-%d %H:%M}" for night in nights), "trend"],
                _row("machine", [night.whole for night in nights], _machine),
                _row("GPU", [night.whole for night in nights], _gpu),
            ]
        ),
    ]
    engines = sorted({name for night in nights for run in night.runs for name in run.engines})
    for title, read in (("machine, by engine", _machine), ("GPU, by engine", _gpu)):
        rows = [_row(engine, [night.of(engine) for night in nights], read) for engine in engines]
        used = any(read(spent) for night in nights for engine in engines if (spent := night.of(engine)) is not None)
        if used:
            headings = [title, *(f"{night.started:%m-%d %H:%M}" for night in nights), "trend"]
            lines += ["", format_table([headings, *rows])]
    return lines


def _machine(spent: Spent) -> float | None:
    return spent.seconds


def _gpu(spent: Spent) -> float | None:
    return spent.gpu_seconds


def _row(name: str, nights: Sequence[Spent | None], read: Callable[[Spent], float | None]) -> list[str]:
    """The minutes of each night and their trend. A night that had nothing of it has no text."""
    seconds = [None if spent is None else read(spent) for spent in nights]
    cells = ["" if spent is None else _minutes(value) for spent, value in zip(nights, seconds)]
    return [name, *cells, _trend(seconds)]


def _minutes(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds / 60:.1f}"


def _trend(seconds: Sequence[float | None]) -> str:
    """The newest over the median of those before it that are known: `+12 %`."""
    newest, before = seconds[-1], [value for value in seconds[:-1] if value is not None]
    if newest is None or not before or median(before) == 0:
        return UNKNOWN
    return f"{newest / median(before) - 1:+.0%}".replace("%", " %")


def _sum(parts: Iterable[Spent]) -> Spent:
    known = list(parts)
    return Spent(known_sum(one.seconds for one in known), known_sum(one.gpu_seconds for one in known))
