"""What an update of the baselines records, and what it refuses."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pstdev

from hybrid_ops.measure.metrics import Kind, Scope
from hybrid_ops.regression.baselines import Baselines, Recorded, Update, Written
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.regression.judge import Settings, tolerance_from_launches
from hybrid_ops.regression.verdicts import Verdict

LAUNCHES_OF_AN_UPDATE = 3
"""The fewest launches that a noisy metric's baseline is made of."""
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
) -> UpdateOutcome:
    """Record what a run measured. Failed, invalid and unstable cells are refused and leave the file as it is.

    A portable cell (scope `any` or platform) that still passes keeps its recorded value: it is every machine's, and
    rewriting it on each would only make noise in reviews.
    """
    updates: list[Update] = []
    kept: list[str] = []
    refused: dict[str, str] = {}
    for cell, result in zip(cells, results):
        refusal = _refusal(cell, result)
        if result.verdict is Verdict.EXPECTED_FAILURE or result.is_ungated:
            continue
        if refusal is not None:
            refused[cell.id] = refusal
        elif cell.metric.scope is not Scope.DEVICE_CLASS and result.verdict is Verdict.PASS:
            kept.append(cell.id)
        else:
            updates.append(_update(cell, result, settings, recorded))
    return UpdateOutcome(baselines.write(updates), kept, refused)


def _refusal(cell: Cell, result: CellResult) -> str | None:
    if result.verdict in (Verdict.FAILED_TO_RUN, Verdict.INVALID_ENVIRONMENT):
        return f"{result.verdict}: {result.reason}"
    if cell.metric.kind is Kind.EXACT:
        if len(set(result.launches)) != 1:
            return f"an exact metric that differs between launches: {result.launches}"
        return None
    if len(result.launches) < LAUNCHES_OF_AN_UPDATE:
        return f"{len(result.launches)} launches; a baseline needs {LAUNCHES_OF_AN_UPDATE}"
    spread = pstdev(math.log(float(value)) for value in result.launches)
    if spread > UNSTABLE:
        return f"unstable: launches vary by {spread:.0%}"
    return None


def _update(cell: Cell, result: CellResult, settings: Settings, recorded: Recorded) -> Update:
    exact = cell.metric.kind is Kind.EXACT
    launches = [] if exact else [float(value) for value in result.launches]
    tolerance = None
    if exact:
        value = result.launches[0]
    else:
        assert result.value is not None
        value = result.value
        tolerance = tolerance_from_launches(launches, settings.priors[cell.metric.kind])
        if result.baseline is not None and result.tolerance is not None:
            tolerance = max(tolerance, result.tolerance)  # a person may have widened it; an update never narrows
    return Update(
        model=cell.case.spec.model,
        case=cell.case.id,
        metric=cell.metric,
        value=value,
        launches=launches,
        tolerance=tolerance,
        definition=cell.case.definition,
        recorded=recorded,
    )


def provenance(run_id: str, device: str, versions: dict[str, str]) -> Recorded:
    """Where values recorded today come from."""
    return Recorded(run=run_id, date=datetime.datetime.now(datetime.UTC).date(), device=device, versions=versions)
