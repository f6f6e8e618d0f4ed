"""What a run compares: with the stored baselines, or two arms with each other. What to launch, and how to judge it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.standby import Standby
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.launch import Launch, Terms, run_launch
from hybrid_ops.measure.pair import Pair, run_pair
from hybrid_ops.measure.records import LaunchRecord, PairRecord
from hybrid_ops.regression.baselines import Baselines
from hybrid_ops.regression.cells import Cell, CellResult, judge_cells, judge_pairs
from hybrid_ops.regression.claims import ClaimResult, judge_claims
from hybrid_ops.regression.findings import findings, unchecked
from hybrid_ops.regression.history.noise import night_noise
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.judge import Settings
from hybrid_ops.regression.learnt import LearntNoise
from hybrid_ops.regression.noise import NOISE_FILE, MeasuredNoise
from hybrid_ops.regression.results import ArmResult, CellNoise, RunResults, UpdateResult, WrittenBaseline
from hybrid_ops.regression.update import provenance, unsettled, update_baselines
from hybrid_ops.run.launch_seconds import LAUNCH_SECONDS_FILE, record_launch_seconds
from hybrid_ops.run.options import RunOptions

Records = Mapping[str, Sequence[Any]]
"""The finished records of a run by launch name."""
FIRST_LOOK_SECONDS, CLOSER_LOOK_SECONDS = 2.0, 6.0
"""How long a brief case is measured at least: at first, and where the answer is to be known closer, which is in an
update or a launch that is made because the first left it open."""


@dataclass(frozen=True)
class Order:
    """A launch, or a launch pair, that is to be made now."""

    spec: EngineSpec
    cases: Sequence[Case]
    index: int
    device: Device
    folder: Path
    terms: Terms
    tell: Callable[[str], None]
    standby: Standby


class Trial(ABC):
    """What a run launches and how it judges that."""

    record_type: ClassVar[type[LaunchRecord] | type[PairRecord]]

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        priors = Settings.for_platform(options.device.platform)
        self.settings = replace(priors, maximum_launches=options.most_launches)

    def judge_as_part(self, share: float) -> None:
        """Judge cells that are this share of a run's noisy ones, so that the whole run will agree with what is found.

        With this share of the false-discovery rate the level of k discoveries among these cells is that of k among
        all of the run, which has at least as many. So what is slower here is slower there, if all have baselines.
        """
        if share:
            rate = share * self.settings.false_discovery_rate
            self.settings = replace(self.settings, false_discovery_rate=rate)

    @abstractmethod
    def measure(self, order: Order) -> LaunchRecord | PairRecord:
        """Make what is ordered."""

    @abstractmethod
    def judge(self, cells: Sequence[Cell], records: Records, budget_left: bool) -> list[CellResult]:
        """The verdict of every cell, from all records so far."""

    def claims(self, cells: Sequence[Cell], records: Records) -> list[ClaimResult]:
        """What the records so far say of each claim."""
        return []

    def unsettled(self, cells: Sequence[Cell], records: Records) -> set[str]:
        """The specs, by launch name, that an update should launch once more."""
        return set()

    @abstractmethod
    def finish(self, results: RunResults, cells: Sequence[Cell]) -> None:
        """Add to the results what only this kind of trial has, and write what it leaves beside the run."""


class BaselineTrial(Trial):
    """Single launches, compared with the stored baselines."""

    record_type = LaunchRecord

    def __init__(self, options: RunOptions) -> None:
        super().__init__(options)
        self.baselines = Baselines(options.baselines, options.device)
        self.learnt = _learnt(options)

    def measure(self, order: Order) -> LaunchRecord:
        closer = self.options.update or order.index > 1
        terms = replace(order.terms, least_seconds=CLOSER_LOOK_SECONDS if closer else FIRST_LOOK_SECONDS)
        launch = Launch(order.spec, order.cases, order.index, order.device, order.folder, self.options.environment)
        return run_launch(launch, terms, order.tell, order.standby)

    def judge(self, cells: Sequence[Cell], records: Records, budget_left: bool) -> list[CellResult]:
        recording = self.options.update
        return judge_cells(cells, records, self.baselines, self.settings, budget_left, self.learnt, recording)

    def claims(self, cells: Sequence[Cell], records: Records) -> list[ClaimResult]:
        return judge_claims(cells, records, self.settings)

    def unsettled(self, cells: Sequence[Cell], records: Records) -> set[str]:
        return unsettled(cells, records, self.settings)

    def finish(self, results: RunResults, cells: Sequence[Cell]) -> None:
        """The findings; and where an update is asked for, the baselines that it writes."""
        results.findings = [*findings(cells, results.cells), *unchecked(results.single_launches)]
        if not self.options.update:
            return
        recorded = provenance(results.run_id, self.options.device.name, results.versions, results.device.settings)
        adds = self.options.update_adds
        outcome = update_baselines(cells, results.cells, self.baselines, self.settings, recorded, adds)
        written = {f"{one.case}-{one.metric.name}" for one in outcome.written}
        results.cells = [replace(result, recorded=result.cell in written) for result in results.cells]
        results.update = UpdateResult(
            written=[
                WrittenBaseline(
                    case=one.case,
                    metric=one.metric.name,
                    unit=one.metric.unit,
                    old=one.old,
                    new=one.new,
                    file=str(one.path),
                )
                for one in outcome.written
            ],
            kept=outcome.kept,
            refused=outcome.refused,
        )
        names = dict.fromkeys(cell.case.spec.launch_name for cell in cells if cell.id in written)
        path = self.options.class_folder / LAUNCH_SECONDS_FILE
        record_launch_seconds(path, results.single_launches, names)


def _learnt(options: RunOptions) -> LearntNoise:
    """What A/A comparisons and the history have shown of the cells' noise on the device class of a run."""
    device = options.device.device_class
    measured = MeasuredNoise(options.class_folder / NOISE_FILE)
    if options.history is None:
        return LearntNoise(measured.sessions)
    with History(options.history) as history:
        return LearntNoise(measured.sessions, night_noise(history, device))


class ArmsTrial(Trial):
    """Two arms, launch pair by launch pair. It needs no baseline, and the machine cancels."""

    record_type = PairRecord

    def __init__(self, options: RunOptions) -> None:
        super().__init__(options)
        assert options.arms is not None
        self.arms = options.arms
        self.noise = MeasuredNoise(options.class_folder / NOISE_FILE)

    def measure(self, order: Order) -> PairRecord:
        must_differ = self.options.arms_differ
        pair = Pair(order.spec, order.cases, order.index, order.device, order.folder, self.arms, must_differ)
        return run_pair(pair, replace(order.terms, least_seconds=CLOSER_LOOK_SECONDS), order.tell)

    def judge(self, cells: Sequence[Cell], records: Records, budget_left: bool) -> list[CellResult]:
        noise = self.noise.by_cell if self.options.arms_differ else {}
        return judge_pairs(cells, records, self.options.arm_tolerance, self.settings, noise, budget_left)

    def finish(self, results: RunResults, cells: Sequence[Cell]) -> None:
        """The arms; and what an A/A comparison has learnt, which goes to the noise file of this device class."""
        first, second = (ArmResult.model_validate(arm, from_attributes=True) for arm in self.arms)
        results.arms = (first, second)
        results.findings = unchecked(results.single_launches)
        if not self.options.arms_differ:
            learnt = self.noise.add(results.cells, results.run_id, self.settings)
            results.noise = {name: CellNoise.model_validate(cell) for name, cell in learnt.items()}


def make_trial(options: RunOptions) -> Trial:
    """The trial that the options ask for. Raises InputError for broken baselines or a broken noise file."""
    return BaselineTrial(options) if options.arms is None else ArmsTrial(options)
