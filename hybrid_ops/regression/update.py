"""What an update of the baselines records, and what it refuses."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, pstdev
from typing import Any

from hybrid_ops.measure.gpu import COMPARED_SETTINGS
from hybrid_ops.measure.metrics import Kind, Scope
from hybrid_ops.regression.baselines import Baselines, Recorded, Update, Written
from hybrid_ops.regression.cells import Cell, CellResult, Launches, observe
from hybrid_ops.regression.judge import (
    TOLERANCE_STEPS,
    Prior,
    Settings,
    are_alike,
    by_session,
    tolerance_from_launches,
)
from hybrid_ops.regression.learnt import LearntNoise
from hybrid_ops.regression.outliers import outlier_launches
from hybrid_ops.regression.verdicts import Verdict

LAUNCHES_OF_AN_UPDATE = 3
"""The fewest launches that a noisy metric's baseline is made of."""
SPARE_LAUNCHES_OF_AN_UPDATE = 2
"""How many more an update may make: for those that a machine unfit to measure spoilt, and where they disagree."""
UNSETTLED = 0.3
"""The tolerance of a case's pace from which on an update launches its engine again: such a baseline would let most
regressions pass that anyone looks for, and often a single launch is to blame."""
MOST_SESSIONS = 8
"""How many sessions a baseline is made of at most; another one takes the place of the oldest."""
NOT_THE_ENGINE = frozenset({"hybrid-ops", "source"})
"""Versions that may differ between the sessions of a baseline: they measure, and are not what is measured."""
UNSTABLE = 0.5
"""The standard deviation of log values between launches from which on a cell is not recorded."""


@dataclass(frozen=True)
class UpdateOutcome:
    """What an update wrote, what it left as it was, and what it refused with the reason."""

    written: list[Written]
    kept: list[str]
    refused: dict[str, str]


def update_baselines(
    cells: Sequence[Cell],
    results: Sequence[CellResult],
    baselines: Baselines,
    settings: Settings,
    recorded: Recorded,
    add: bool = False,
) -> UpdateOutcome:
    """Record what a run measured. Failed, invalid and unstable cells are refused and leave the file as it is.

    A portable cell (scope `any` or platform) that still passes keeps its recorded value: it is every machine's, and
    rewriting it on each would only make noise in reviews.

    With `add` the launches of a noisy cell are a further session of its baseline, and what is exact keeps its value.
    What differs from the baseline by its versions or its verdict is refused: it is another engine.
    """
    updates: list[Update] = []
    kept: list[str] = []
    refused: dict[str, str] = {}
    for cell, result in zip(cells, results):
        if result.verdict is Verdict.EXPECTED_FAILURE or result.is_ungated or cell.metric.is_bounded:
            continue
        refusal = _refusal(cell, result) or (_refusal_to_add(cell, result, baselines, recorded) if add else None)
        if refusal is not None:
            refused[cell.id] = refusal
        elif _keeps_its_value(cell, result, add):
            kept.append(cell.id)
        else:
            updates.append(_update(cell, result, settings, recorded, add))
    return UpdateOutcome(baselines.write(updates), kept, refused)


def _keeps_its_value(cell: Cell, result: CellResult, add: bool) -> bool:
    if result.verdict is not Verdict.PASS:
        return False
    return cell.metric.kind is Kind.EXACT if add else cell.metric.scope is not Scope.DEVICE_CLASS


def unsettled(cells: Sequence[Cell], launches: Launches, settings: Settings) -> set[str]:
    """The specs, by launch name, whose launches disagree so much about the pace of a case that one more may help."""
    found = set()
    for cell in cells:
        if cell.metric.name == cell.case.procedure.pace:
            prior = settings.priors[cell.metric.kind]
            values, _ = _without_outliers([float(value) for value in observe(cell, launches).values], prior)
            if len(values) > 1 and tolerance_from_launches(values, prior) > UNSETTLED:
                found.add(cell.case.spec.launch_name)
    return found


def _without_outliers(launches: list[float], prior: Prior) -> tuple[list[float], list[float]]:
    """The launches to record, and those to name as outliers: at most one in four, and none of the fewest launches.

    A lone slow launch says that something else used the machine; two of four say that the engine has two speeds.
    """
    outliers = outlier_launches(launches, prior.launch)
    if not outliers or 4 * len(outliers) > len(launches):
        return launches, []
    left_out = {outlier.launch for outlier in outliers}
    return [value for index, value in enumerate(launches) if index not in left_out], [o.value for o in outliers]


def _refusal(cell: Cell, result: CellResult) -> str | None:
    if result.verdict in (Verdict.FAILED_TO_RUN, Verdict.INVALID_ENVIRONMENT):
        return f"{result.verdict}: {result.reason}"
    if cell.metric.kind is Kind.EXACT:
        if not result.launches or not are_alike(result.launches, cell.metric.is_tokens, cell.metric.rounding):
            return f"an exact metric that differs between launches: {result.launches}"
        return None
    if len(result.launches) < LAUNCHES_OF_AN_UPDATE:
        return f"{len(result.launches)} launches; a baseline needs {LAUNCHES_OF_AN_UPDATE}"
    spread = pstdev(math.log(float(value)) for value in result.launches)
    if spread > UNSTABLE:
        return f"unstable: launches vary by {spread:.0%}"
    return None


def _refusal_to_add(cell: Cell, result: CellResult, baselines: Baselines, recorded: Recorded) -> str | None:
    """Why a run's launches are no further session of the cell's baseline; None where they are one."""
    found = cell.baseline(baselines)
    if found is None or result.verdict is Verdict.MISSING_BASELINE:
        return None
    instead = "record it anew with --update-baselines"
    old, new = found.recorded.versions, recorded.versions
    for name in sorted(old.keys() | new.keys() - NOT_THE_ENGINE):
        if name not in NOT_THE_ENGINE and old.get(name) != new.get(name):
            return (
                f"the baseline is of {name} {old.get(name, '(none)')}, this run of {new.get(name, '(none)')}: {instead}"
            )
    if result.verdict in (Verdict.SLOWER, Verdict.FASTER, Verdict.CHANGED):
        return f"{result.verdict} than the baseline, so not the same engine: {instead}"
    return None


def _update(cell: Cell, result: CellResult, settings: Settings, recorded: Recorded, add: bool) -> Update:
    value = result.launches[0]
    launches: list[float] = []
    sessions: list[int] = []
    outliers: list[float] = []
    tolerance = None
    if cell.metric.kind is not Kind.EXACT:
        prior = settings.priors[cell.metric.kind]
        launches, outliers = _without_outliers([float(launch) for launch in result.launches], prior)
        groups = [*(_old_sessions(result) if add else ()), launches][-MOST_SESSIONS:]
        sessions = [len(group) for group in groups] if len(groups) > 1 else []
        launches = [launch for group in groups for launch in group]
        value = geometric_mean(launches)
        tolerance = max(_own_tolerance(groups, cell.metric.kind, prior), _widened_tolerance(cell, result, prior))
    return Update(
        model=cell.case.spec.model,
        case=cell.case.id,
        metric=cell.metric,
        value=value,
        launches=launches,
        sessions=sessions,
        outliers=outliers,
        tolerance=tolerance,
        definition=cell.definition,
        recorded=recorded,
        device_count=cell.case.spec.device_count,
    )


def _old_sessions(result: CellResult) -> list[list[float]]:
    """The launches of the baseline that a run was compared with, by session; none where there was none."""
    launches = [float(launch) for launch in result.baseline_launches]
    return by_session(launches, result.baseline_sessions) if launches else []


def _own_tolerance(sessions: Sequence[Sequence[float]], kind: Kind, prior: Prior) -> float:
    """The tolerance that a baseline's launches ask for by themselves, so that a reader of the file can check it."""
    between = LearntNoise().of("", "", kind, sessions, prior).session
    launches = [launch for session in sessions for launch in session]
    return tolerance_from_launches(launches, prior, between, [len(session) for session in sessions])


def _widened_tolerance(cell: Cell, result: CellResult, prior: Prior) -> float:
    """The old tolerance if a person made it wider than the old launches ask for, which an update keeps; else 0."""
    if result.tolerance is None:
        return 0.0
    sessions = _old_sessions(result)
    own = _own_tolerance(sessions, cell.metric.kind, prior) if sessions else 0.0
    return result.tolerance if result.tolerance > own + 1 / TOLERANCE_STEPS else 0.0


def provenance(run_id: str, device: str, versions: dict[str, str], settings: Mapping[str, Any]) -> Recorded:
    """Where values recorded today come from. `settings` are the GPU's."""
    return Recorded(
        run=run_id,
        date=datetime.datetime.now(datetime.UTC).date(),
        device=device,
        versions=versions,
        settings={name: settings[name] for name in COMPARED_SETTINGS if settings.get(name) is not None},
    )
