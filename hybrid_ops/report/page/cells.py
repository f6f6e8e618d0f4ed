"""What a run says of each cell, for its charts and the panel that opens below its row."""

from __future__ import annotations

from typing import Any

from hybrid_ops.measure.procedures import find_metric
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.commands import accept, measure_again
from hybrid_ops.report.page.trends import CellTrend

ASKING = ("failed", "error", "skipped")
"""The outcomes for which the panel names commands."""


def cell_data(run: RunResults, cell: CellResult, trend: CellTrend | None, logs: dict[str, str]) -> dict[str, Any]:
    """A cell as the scripts read it. What is not known is left out."""
    told: dict[str, Any] = {
        **series_data(cell.case, cell.metric, cell.unit, cell.kind, cell.direction, trend),
        "verdict": cell.verdict.value,
        "reason": cell.reason,
        "launches": cell.launches,
        "value": cell.value,
        "baseline": cell.baseline,
        "baseline_launches": cell.baseline_launches,
        "tolerance": cell.tolerance,
        "interval": cell.interval,
        "mde": cell.mde,
        "p_value": cell.p_value,
        "log_ratios": cell.log_ratios,
        "arms": cell.compared_with == "arm a",
        "engine": cell.engine,
        "baseline_file": cell.baseline_file,
        "log": logs.get(cell.log or ""),
    }
    if cell.verdict.outcome in ASKING and not cell.recorded:
        told["again"] = measure_again(run, [cell])
    if cell.verdict.outcome in (*ASKING, "passed") and not cell.recorded:
        told["accept"] = accept(run, [cell])
    if cell.verdict.is_bad:
        told["errors"] = _launch_errors(run, cell)
    return {name: value for name, value in told.items() if value not in (None, [], "", False)}


def series_data(
    case: str, metric: str, unit: str, kind: str, direction: str, trend: CellTrend | None
) -> dict[str, Any]:
    """What is known of a cell without a run."""
    known = find_metric(metric)
    told = {
        "case": case,
        "metric": metric,
        "unit": unit,
        "kind": kind,
        "direction": direction,
        "description": None if known is None else known.description,
        "history": None if trend is None else trend.data,
    }
    return {name: value for name, value in told.items() if value is not None}


def _launch_errors(run: RunResults, cell: CellResult) -> list[str]:
    """What the launches of a bad cell ended with, each error once."""
    errors = []
    for launch in run.single_launches:
        case = launch.cases.get(cell.case)
        if launch.launch_name == cell.engine and (error := launch.error or (case and case.error)):
            errors.append(f"launch {launch.index}: {error}")
    return [error for error in dict.fromkeys(errors) if error not in cell.reason]
