"""The launches of a run for its page: how each went, its log, and what the machine showed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.numbers import show_time

LAUNCHES = "launches"
"""The folder of a run in which its launches lie."""
SHARES = ("foreign_cpu_share", "least_memory_available_share")


@dataclass(frozen=True)
class LaunchRow:
    """One launch, as the table shows it."""

    engine: str
    number: str
    started: str
    took: str
    loaded: str
    state: str
    """`measured`, or what went wrong."""
    is_good: bool
    notes: list[str]
    """Errors of cases, limits that the machine violated, and what a reader should know."""
    arguments: str
    log: str | None
    log_name: str


def log_links(run: RunResults, folder: Path, page: Path) -> dict[str, str]:
    """Links from the page to the engines' logs, by what the results call them; none for a log that is not there.

    Results name logs by the paths of the machine that made them. A run's folder may since have been moved or copied, so
    a log is first looked for in it.
    """
    links = {}
    for launch in run.single_launches:
        if (path := _found(Path(launch.log), folder)) is not None:
            links[launch.log] = link(path, page)
    return links


def _found(log: Path, folder: Path) -> Path | None:
    parts = log.parts
    moved = []
    if LAUNCHES in parts:
        last = len(parts) - 1 - parts[::-1].index(LAUNCHES)
        moved.append(folder.joinpath(*parts[last:]))
    return next((path for path in (*moved, log) if path.is_file()), None)


def link(path: Path, page: Path) -> str:
    """A link from the page to a file, which holds as long as both are moved together."""
    return quote(Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix())


def launch_rows(run: RunResults, logs: dict[str, str]) -> list[LaunchRow]:
    """All launches in order of their start; both arms of a pair."""
    return [
        LaunchRow(
            engine=launch.launch_name,
            number=f"{launch.index}{arm}",
            started=launch.started[11:19],
            took=show_time(launch.seconds),
            loaded="—" if launch.facts is None else show_time(launch.facts.load_seconds),
            state=_state(launch),
            is_good=not launch.failed and not launch.unfit,
            notes=_notes(launch),
            arguments=_arguments(launch),
            log=logs.get(launch.log),
            log_name=launch.log,
        )
        for launch, arm in _in_order(run)
    ]


def _in_order(run: RunResults) -> list[tuple[LaunchRecord, str]]:
    launches = [
        (launch, f" {'ab'[place]}" if len(record.launches) > 1 else "")
        for record in run.launches
        for place, launch in enumerate(record.launches)
    ]
    return sorted(launches, key=lambda one: one[0].started)


def _state(launch: LaunchRecord) -> str:
    if launch.error is not None:
        return "did not load"
    if launch.failed:
        return "measured nothing"
    failed = sum(case.error is not None for case in launch.cases.values())
    if failed:
        return f"{failed} of {len(launch.cases)} cases failed"
    return "machine not fit" if launch.unfit else "measured"


def _notes(launch: LaunchRecord) -> list[str]:
    errors = [] if launch.error is None else [launch.error]
    cases = [f"{name}: {case.error}" for name, case in launch.cases.items() if case.error is not None]
    said = [note for case in launch.cases.values() for note in case.notes]
    return list(dict.fromkeys([*errors, *cases, *launch.violations, *said]))


def _arguments(launch: LaunchRecord) -> str:
    """The arguments and the variables of a launch, one a line."""
    arguments = [f"{name}: {value}" for name, value in sorted(launch.arguments.items())]
    variables = [f"{name}={'' if value is None else value}" for name, value in sorted(launch.environment.items())]
    return "\n".join([*arguments, *variables])


def condition_data(run: RunResults) -> list[dict[str, Any]]:
    """What the machine showed during each launch, in order of their start; what was not seen is left out."""
    return [
        {
            "engine": launch.launch_name,
            "launch": f"{launch.index}{arm}",
            "started": launch.started,
            "seconds": launch.seconds,
            "violations": launch.violations,
            "seen": {name: value for name, value in _seen(launch.conditions) if value is not None},
        }
        for launch, arm in _in_order(run)
    ]


def _seen(conditions: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Shares in percent."""
    for name in SHARES:
        share = conditions.get(name)
        yield name, None if share is None else 100 * share
    yield "most_memory_pressure_percent", conditions.get("most_memory_pressure_percent")
    gpu = conditions.get("gpu") or {}
    for name in ("least_sm_clock_mhz", "least_memory_clock_mhz", "mean_power_w", "most_temperature_c"):
        yield name, gpu.get(name)
    yield "most_foreign_processes", gpu.get("most_foreign_processes")
    slowdowns = gpu.get("slowdowns")
    yield "slowdown_share", None if slowdowns is None else 100 * max(slowdowns.values(), default=0.0)
