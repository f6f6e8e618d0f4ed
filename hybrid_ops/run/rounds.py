"""Rounds: which launches a run makes next, from what it has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.cells import Cell
from hybrid_ops.regression.claims import Outcome
from hybrid_ops.regression.cost import LeftOut
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
    cells: list[str]
    """The open cells that it is made for, by id."""


@dataclass(frozen=True)
class Round:
    """The launches that a run makes before it judges again. One without launches ends the run."""

    number: int
    launches: list[PlannedLaunch]
    left_out: list[LeftOut] = field(default_factory=list)
    """What is undecided and is not launched in this round, because the budget is too short for it."""


OpenCells = Mapping[str, list[Cell]]
"""The cells to launch for, by launch name."""


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
        self._everything = _by_launch_name(cells)
        self._exact = {cell.id for cell in cells if cell.metric.kind is Kind.EXACT}
        # An exact metric is known after one launch, on whatever machine.
        self._noisy = {
            case.spec.launch_name for cell in cells if cell.metric.kind is not Kind.EXACT for case in cell.cases
        }

    def is_exact(self, planned: PlannedLaunch) -> bool:
        """Whether all that a launch is made for is exact, so that no neighbour can change it."""
        return self._exact.issuperset(planned.cells)

    def next_round(self, number: int, records: Records) -> Round:
        """Round `number`, which comes after `records`."""
        if (required := self._required(number, records)) is not None:
            return _round(number, required, records)
        return self._round_of_undecided(number, records)

    def _required(self, number: int, records: Records) -> OpenCells | None:
        """What is launched in round `number` whatever the budget is; None where the budget decides."""
        if number == 1:
            return self._everything
        if self._trial.options.update and number <= LAUNCHES_OF_AN_UPDATE + SPARE_LAUNCHES_OF_AN_UPDATE:
            return self._wanted_by_update(records)
        # A launch on an unfit machine is made again once, after all the others. What is exact is known all the same.
        noisy = self._noisy
        if number == 2 and (unfit := [name for name, group in records.items() if group[0].unfit and name in noisy]):
            self._tell(f"launching again, because the machine was not fit: {', '.join(unfit)}")
            return {name: self._everything[name] for name in unfit}
        return None

    def _wanted_by_update(self, records: Records) -> OpenCells:
        """All that has a noisy metric, until it has been launched often enough."""
        again = self._trial.unsettled(self._cells, records)
        return {
            name: cells
            for name, cells in self._everything.items()
            if name in self._noisy
            and not _hopeless(records[name])
            and (_fit(records[name]) < LAUNCHES_OF_AN_UPDATE or name in again)
        }

    def _round_of_undecided(self, number: int, records: Records) -> Round:
        """The engines of undecided cells and claims, as far as the budget goes; and those for which it does not."""
        undecided = {
            name: cells
            for name, cells in _by_launch_name(self._undecided(records)).items()
            if len(records[name]) < self._trial.options.most_launches
        }
        launch_seconds = {name: fmean(record.seconds for record in records[name]) for name in undecided}
        open_cells = Counter({name: len(cells) for name, cells in undecided.items()})
        fit = fitting(open_cells, launch_seconds, self._budget.left)
        left_out = [
            LeftOut(
                engine=name,
                cells=[cell.id for cell in undecided[name]],
                launch_seconds=launch_seconds[name],
                seconds_left=seconds_left,
            )
            for name, seconds_left in fit.left_out.items()
        ]
        return _round(number, {name: undecided[name] for name in fit.chosen}, records, left_out)

    def _undecided(self, records: Records) -> list[Cell]:
        """The cells whose verdict or claim more launches may decide."""
        results = self._trial.judge(self._cells, records, budget_left=True)
        undecided = {result.cell for result in results if not result.decided}
        claims = self._trial.claims(self._cells, records)
        undecided |= {claim.cell for claim in claims if claim.outcome is Outcome.UNDECIDED}
        return [cell for cell in self._cells if cell.id in undecided]


def _round(number: int, wanted: OpenCells, records: Records, left_out: Sequence[LeftOut] = ()) -> Round:
    launches = [
        PlannedLaunch(
            launch_name=name,
            index=len(records[name]) + 1,
            cases=[case.id for case in cases_by_launch_name(cells)[name]],
            cells=[cell.id for cell in cells],
        )
        for name, cells in wanted.items()
    ]
    return Round(number, launches, list(left_out))


def _by_launch_name(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells that each launch measures a part of: two launches, where a ratio's other case is another engine's."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        for name in dict.fromkeys(case.spec.launch_name for case in cell.cases):
            found.setdefault(name, []).append(cell)
    return found


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
