"""The end of a run: from all that was measured to its results, whether one machine measured it or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.power_limit import SWEEPS
from hybrid_ops.measure.procedures import procedures
from hybrid_ops.regression.cells import Cell
from hybrid_ops.regression.cost import run_cost
from hybrid_ops.regression.results import DeviceResult, RunResults
from hybrid_ops.run.rounds import Round, cases_by_launch_name
from hybrid_ops.run.trial import Records, Trial


@dataclass(frozen=True)
class Measured:
    """What a run has measured, before it is judged for good."""

    run_id: str
    command: str
    device: DeviceResult
    versions: dict[str, str]
    """Of what ran the suite; the engines' own are in the records."""
    records: Records
    rounds: Sequence[Round]
    elapsed: float
    """Seconds of the run."""
    budget_seconds: float


def finish(trial: Trial, cells: Sequence[Cell], measured: Measured) -> RunResults:
    """Judge for good, and write the baselines if they are to be updated."""
    planned = cases_by_launch_name(cells)
    made = [record for name in planned for record in measured.records[name]]
    versions = dict(measured.versions)
    for record in made:
        versions.update(record.versions)
    judged = trial.judge(cells, measured.records, budget_left=False)
    rounds = measured.rounds
    cost = run_cost(
        elapsed=measured.elapsed,
        budget_seconds=measured.budget_seconds,
        cells=cells,
        results=judged,
        records=made,
        made_for={(one.launch_name, one.index): set(one.cells) for each in rounds for one in each.launches},
        left_out=rounds[-1].left_out,
    )
    results = RunResults(
        run_id=measured.run_id,
        command=measured.command,
        started=min((record.started for record in made), default=""),
        seconds=cost.seconds,
        device=measured.device,
        versions=versions,
        cells=judged,
        launches=made,
        claims=trial.claims(cells, measured.records),
        cost=cost,
    )
    # Arms are told in their own terms.
    all_cases = [case for cases in planned.values() for case in cases]
    results.add_details(details([case for case in all_cases if not trial.options.arms]))
    if swept := power_sweeps(all_cases):
        results.add_details({SWEEPS: swept})
    trial.finish(results, cells)
    return results


def power_sweeps(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """The power limit of each case that has one, and the case without it, which names its sweep."""
    return {
        case.id: {
            "watts": case.spec.power_limit_watts,
            "sweep": replace(case, spec=replace(case.spec, power_limit_watts=None)).id,
            "throughput": case.procedure.pace,
        }
        for case in cases
        if case.spec.power_limit_watts is not None
    }


def details(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """What each kind of work says of its cases beside their values, by its own key."""
    found: dict[str, dict[str, Any]] = {
        procedure.details_key: {} for procedure in procedures() if procedure.details_key is not None
    }
    for case in cases:
        key, told = case.procedure.details_key, case.procedure.details(case)
        if key is not None and told is not None:
            found[key][case.id] = told
    return found
