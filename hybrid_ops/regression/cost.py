"""What a run cost: seconds of the machine and of GPUs, by engine and by verdict, and what its budget left out.

All is computed here, once, when a run ends. The run's time is the sum of three: the time in which at least one launch
ran, the time beside it in which a launch waited for a device that others held, and the rest (planning, the device's
peaks, judging). The seconds of the engines, and those of the verdicts, are the sum of all launches. That is more than
the time in which launches ran where several ran at once, as they do under pytest-xdist on several GPUs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from hybrid_ops.measure.records import Record
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.regression.verdicts import Verdict

GPUS_HELD = {"cpu": 0, "cuda": 1}
"""How many GPUs a launch holds on each platform. Nobody here knows what stands behind a running server."""


class EngineCost(BaseModel):
    """What all launches of one engine spec cost."""

    engine: str
    """The name of its launches."""
    launches: int
    cells: int
    """How many cells it measures."""
    verdicts: dict[Verdict, int]
    """How many of them ended with each verdict."""
    seconds: float
    gpu_seconds: float | None
    """Seconds times GPUs; null where nobody knows how many there were."""


class VerdictCost(BaseModel):
    """What was spent on the cells that ended with one verdict, until they were decided."""

    verdict: Verdict
    cells: int
    seconds: float
    gpu_seconds: float | None


class LeftOut(BaseModel):
    """An engine that was not launched again, because the budget was too short for it."""

    engine: str
    cells: list[str]
    """Its undecided cells."""
    launch_seconds: float
    """What a launch of it takes: the mean of those that were made."""
    seconds_left: float
    """What the budget had left for it; below 0 once it was spent."""


class Cost(BaseModel):
    """What one run cost."""

    seconds: float
    """Of the whole run: the sum of the three that follow."""
    launching_seconds: float
    """In which at least one launch ran."""
    waiting_seconds: float
    """In which none ran, and one waited for a device that others held."""
    other_seconds: float
    """The rest: planning, the device's peaks, judging."""
    gpu_seconds: float | None
    """Of all launches together."""
    budget_seconds: float
    """After which undecided cells are not launched again."""
    engines: list[EngineCost]
    """The most expensive first."""
    verdicts: list[VerdictCost]
    """The most expensive first."""
    left_out: list[LeftOut]


def run_cost(
    elapsed: float,
    budget_seconds: float,
    cells: Sequence[Cell],
    results: Sequence[CellResult],
    records: Sequence[Record],
    made_for: Mapping[tuple[str, int], Collection[str]],
    left_out: list[LeftOut],
) -> Cost:
    """What a run of `cells` with these `results` cost.

    Parameters
    ----------
    elapsed: seconds of the run
    made_for: the cells, by id, that were open when a launch was made for them; by the launch's name and index
    """
    launching, busy = _busy_seconds(records)
    verdict_of = {result.cell: result.verdict for result in results}
    parts = [part for record in records for part in _parts(record, cells, made_for)]
    return Cost(
        seconds=max(elapsed, busy),  # processes of one run do not begin at the same moment
        launching_seconds=launching,
        waiting_seconds=busy - launching,
        other_seconds=max(elapsed - busy, 0.0),
        gpu_seconds=known_sum(gpu_seconds(record) for record in records),
        budget_seconds=budget_seconds,
        engines=_by_engine(cells, verdict_of, records),
        verdicts=_by_verdict(verdict_of, parts),
        left_out=left_out,
    )


def gpu_seconds(record: Record) -> float | None:
    """Seconds of a launch or a launch pair, times the GPUs that it held; None where nobody knows them."""
    held = GPUS_HELD.get(record.launches[0].device["platform"])
    return None if held is None else held * record.seconds


def known_sum(values: Iterable[float | None]) -> float | None:
    """The sum; None where a part of it is not known."""
    known = list(values)
    return None if None in known else math.fsum(value for value in known if value is not None)


def _busy_seconds(records: Sequence[Record]) -> tuple[float, float]:
    """Seconds in which at least one launch ran, and in which at least one ran or waited for its device."""
    begun = [(datetime.fromisoformat(record.started).timestamp(), record) for record in records]
    running = _covered((start, start + record.seconds) for start, record in begun)
    return running, _covered((start - record.waited, start + record.seconds) for start, record in begun)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of what the spans (begin, end) cover together."""
    length, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        length += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return length


@dataclass(frozen=True)
class _Part:
    """What one launch spent on one cell."""

    cell: str
    seconds: float
    gpu_seconds: float | None


def _parts(
    record: Record, cells: Sequence[Cell], made_for: Mapping[tuple[str, int], Collection[str]]
) -> Iterator[_Part]:
    """A launch's seconds, shared among the cells that it was made for.

    Each case has a share by the time that it was measured for, and its cells have equal parts of that. Loading is
    shared in the same proportion. Where no case was reached, all have equal shares.
    """
    open_cells = made_for[record.launch_name, record.index]
    by_case: dict[str, list[str]] = {}
    for cell in cells:
        if cell.id in open_cells:
            for case in cell.cases:
                if case.spec.launch_name == record.launch_name:
                    by_case.setdefault(case.id, []).append(cell.id)
    seen = {case_id: sum(_case_seconds(record, case_id)) for case_id in by_case}
    whole = sum(seen.values())
    gpu = gpu_seconds(record)
    for case_id, own in by_case.items():
        share = (seen[case_id] / whole if whole else 1 / len(by_case)) / len(own)
        for name in own:
            yield _Part(name, share * record.seconds, None if gpu is None else share * gpu)


def _case_seconds(record: Record, case: str) -> Iterator[float]:
    """How long each launch of the record measured a case."""
    for launch in record.launches:
        if case in launch.cases:
            yield launch.cases[case].seconds or 0.0


def _by_engine(cells: Sequence[Cell], verdict_of: Mapping[str, Verdict], records: Sequence[Record]) -> list[EngineCost]:
    made: dict[str, list[Record]] = {}
    for record in records:
        made.setdefault(record.launch_name, []).append(record)
    found = []
    for name, group in made.items():
        verdicts = Counter(verdict_of[cell.id] for cell in cells if cell.case.spec.launch_name == name)
        found.append(
            EngineCost(
                engine=name,
                launches=sum(len(record.launches) for record in group),
                cells=verdicts.total(),
                verdicts={verdict: verdicts[verdict] for verdict in Verdict if verdicts[verdict]},
                seconds=math.fsum(record.seconds for record in group),
                gpu_seconds=known_sum(gpu_seconds(record) for record in group),
            )
        )
    return sorted(found, key=lambda engine: -engine.seconds)


def _by_verdict(verdict_of: Mapping[str, Verdict], parts: Sequence[_Part]) -> list[VerdictCost]:
    cells = Counter(verdict_of.values())
    found = []
    for verdict, count in cells.items():
        own = [part for part in parts if verdict_of[part.cell] is verdict]
        found.append(
            VerdictCost(
                verdict=verdict,
                cells=count,
                seconds=math.fsum(part.seconds for part in own),
                gpu_seconds=known_sum(part.gpu_seconds for part in own),
            )
        )
    return sorted(found, key=lambda one: -one.seconds)
