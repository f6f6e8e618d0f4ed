"""Rounds: which launches a run makes next, from what it has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.cells import Cell
from hybrid_ops.regression.claims import Outcome
from hybrid_ops.regression.update import LAUNCHES_OF_AN_UPDATE, SPARE_LAUNCHES_OF_AN_UPDATE
from hybrid_ops.run.budget import Budget, fitting
from hybrid_ops.run.trial import Records, Trial


@dataclass(frozen=True)
class PlannedLaunch:
    """One launch of a round."""

    launch_name: str
    index: int
    cases: list[str]
    """The cases to measure, by id."""


@dataclass(frozen=True)
class Round:
    """The launches that a run makes before it judges again. One without launches ends the run."""

    number: int
    launches: list[PlannedLaunch]


class RoundPlanner:
    """Decides each round of a run.

    The first round launches everything. After it, what is still undecided is launched again as far as the budget goes;
    an update launches everything often enough to know its spread.
    """

    def __init__(self, cells: Sequence[Cell], trial: Trial, budget: Budget, tell: Callable[[str], None]) -> None:
        self._cells = cells
        self._trial = trial
        self._budget = budget
        self._tell = tell
        self.cases = cases_by_launch_name(cells)
        self._everything = {name: [case.id for case in cases] for name, cases in self.cases.items()}

    def next_round(self, number: int, records: Records) -> Round:
        """Round `number`, which comes after `records`."""
        wanted = self._wanted(number, records)
        launches = [PlannedLaunch(name, len(records[name]) + 1, cases) for name, cases in wanted.items()]
        return Round(number, launches)

    def _wanted(self, number: int, records: Records) -> dict[str, list[str]]:
        """The cases to measure in round `number`, by launch name."""
        options = self._trial.options
        if number == 1:
            return self._everything
        if options.update and number <= LAUNCHES_OF_AN_UPDATE + SPARE_LAUNCHES_OF_AN_UPDATE:
            return self._wanted_by_update(records)
        # A launch on an unfit machine is made again once, after all the others.
        if number == 2 and (unfit := [name for name, group in records.items() if group[0].unfit]):
            self._tell(f"launching again, because the machine was not fit: {', '.join(unfit)}")
            return {name: self._everything[name] for name in unfit}
        if number > options.most_launches:
            return {}
        return self._undecided(records)

    def _wanted_by_update(self, records: Records) -> dict[str, list[str]]:
        """All that has a noisy metric, until it has been launched often enough."""
        # An exact metric is known after one launch.
        noisy = {
            case.spec.launch_name for cell in self._cells if cell.metric.kind is not Kind.EXACT for case in cell.cases
        }
        again = self._trial.unsettled(self._cells, records)
        return {
            name: cases
            for name, cases in self._everything.items()
            if name in noisy
            and not _hopeless(records[name])
            and (_fit(records[name]) < LAUNCHES_OF_AN_UPDATE or name in again)
        }

    def _undecided(self, records: Records) -> dict[str, list[str]]:
        """The cases of undecided cells and claims, as far as the budget goes."""
        results = self._trial.judge(self._cells, records, budget_left=True)
        undecided = {result.cell for result in results if not result.decided}
        claims = self._trial.claims(self._cells, records)
        undecided |= {claim.cell for claim in claims if claim.outcome is Outcome.UNDECIDED}
        wanted: dict[str, list[str]] = {}
        open_cells: Counter[str] = Counter()
        for cell in self._cells:
            if cell.id in undecided:
                for case in cell.cases:
                    open_cells[case.spec.launch_name] += 1
                    cases = wanted.setdefault(case.spec.launch_name, [])
                    if case.id not in cases:
                        cases.append(case.id)
        durations = [record.seconds for group in records.values() for record in group]
        return {name: wanted[name] for name in fitting(open_cells, durations, self._budget.left)}


def cases_by_launch_name(cells: Sequence[Cell]) -> Mapping[str, list[Case]]:
    """The cases to measure, those that ratios are divided by included, by the launches that they share."""
    planned: dict[str, dict[str, Case]] = {}
    for cell in cells:
        for case in cell.cases:
            planned.setdefault(case.spec.launch_name, {}).setdefault(case.id, case)
    return {name: list(cases.values()) for name, cases in planned.items()}


def _hopeless(records: Sequence[Any]) -> bool:
    """Whether an engine has shown that it does not run, so that launching it again would only cost time."""
    return all(record.failed for record in records)


def _fit(records: Sequence[Any]) -> int:
    """How many launches were made on a fit machine."""
    return sum(not record.unfit for record in records)
