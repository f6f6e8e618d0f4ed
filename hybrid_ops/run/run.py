"""One run of a suite: make the launches in rounds, judge, record.

Every process of a run (pytest-xdist starts several) goes through the same steps over one shared folder: a launch is
made by whichever process takes it first, and all read all of them. So cases of one spec stay together, verdicts see the
whole run, and results and baselines are written once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hybrid_ops.engines.devices import Device, devices, most_at_once, placed, placed_class
from hybrid_ops.engines.standby import Standby
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.environment import machine_facts, suite_versions
from hybrid_ops.measure.isolation import undisturbed_classes
from hybrid_ops.measure.launch import Terms
from hybrid_ops.measure.peaks import read_peaks, run_peaks
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.measure.store import RunStore
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.models.hub import download_weights
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.regression.results import DeviceResult, RunResults
from hybrid_ops.run.budget import Budget
from hybrid_ops.run.finish import Measured, finish
from hybrid_ops.run.launch_seconds import LAUNCH_SECONDS_FILE, read_launch_seconds
from hybrid_ops.run.options import RunOptions
from hybrid_ops.run.progress import LaunchTimes, StepTeller
from hybrid_ops.run.rounds import PlannedLaunch, Round, RoundPlanner, cases_by_launch_name
from hybrid_ops.run.shard_file import SHARD_FILE, ShardFile
from hybrid_ops.run.trial import Order, Records, make_trial

PEAKS_FILE = "peaks.json"
"""The peaks of a device class that were measured, beside its baselines."""
PEAKS: TypeAdapter[DevicePeaks | None] = TypeAdapter(DevicePeaks | None)
ROUND = TypeAdapter(Round)
RESULTS = TypeAdapter(RunResults)
SHARD = TypeAdapter(ShardFile)
DOWNLOAD: TypeAdapter[str | None] = TypeAdapter(str | None)
"""Why weights could not be had, if they could not."""


class PerfRun:
    """The run as one process of it sees it."""

    def __init__(self, folder: Path, options: RunOptions, tell: Callable[[str], None]) -> None:
        """Raises InputError for a file that the run needs and cannot read."""
        self.folder = folder
        self.options = options
        self.tell = tell
        self.device = options.device
        self.trial = make_trial(options)
        self.store: RunStore[Any] = RunStore(folder, self.trial.record_type)
        self.budget = Budget(options.budget_seconds)
        self.results: RunResults | None = None
        """What is in `results.json`, once the run is judged."""
        self._recorded_peaks = options.class_folder / PEAKS_FILE
        read_peaks(self._recorded_peaks)  # a broken file is found before anything is measured
        read_launch_seconds(options.class_folder / LAUNCH_SECONDS_FILE)
        self._undisturbed = undisturbed_classes(options.baselines)
        self._peaks: DevicePeaks | None = None
        self._times = LaunchTimes(folder, is_pair=options.arms is not None)
        self._standby = Standby(folder / f"standby-{os.getpid()}")
        self._by_cell: dict[str, CellResult] = {}

    def execute(self, cells: Sequence[Cell], shard: ShardFile | None = None) -> RunResults:
        """Measure and judge `cells`, write the results, and return them. `shard` says of which run they are a part."""
        if shard is not None:
            self.store.once(self.folder / SHARD_FILE, SHARD, lambda: shard)
            self.trial.judge_as_part(shard.error_share(cells))
        self._download_weights(cells)
        self._peaks = self.store.once(self.folder / "peaks.json", PEAKS, partial(self._measure_peaks, cells))
        planner = RoundPlanner(cells, self.trial, self.budget, self.tell)
        rounds = [self._round(planner, 1)]
        try:
            while rounds[-1].launches:
                self._make_round(planner, rounds[-1])
                rounds.append(self._round(planner, len(rounds) + 1))
        finally:
            self._standby.close()
        self.results = self.store.once(self.store.results_path, RESULTS, partial(self._finish, cells, rounds))
        self._by_cell = {result.cell: result for result in self.results.cells}
        return self.results

    def result(self, cell: Cell) -> CellResult:
        """The verdict of a cell, once the run is executed."""
        return self._by_cell[cell.id]

    def launch(self, case: Case) -> LaunchRecord:
        """The first launch of the run that has values of `case`, of either arm. Raises LookupError without one."""
        records = [] if self.results is None else self.results.records_of(case.id)
        if not records:
            raise LookupError(f"no launch measured {case.id}")
        return records[0]

    def _measure_peaks(self, cells: Sequence[Cell]) -> DevicePeaks | None:
        """The device's peaks, if a cell needs them."""
        cases = [cell.case for cell in cells if cell.metric.needs_peaks]
        if not cases:
            return None
        dtypes = {case.procedure.arithmetic(case) for case in cases}
        with self._held(self.device, None, True, "the device's peaks: ") as device:
            try:
                return run_peaks(device, dtypes, self._recorded_peaks, self.options.update)
            except RuntimeError as error:
                self.tell(str(error))  # the cells that need them then say that they have no value
                return None

    def _download_weights(self, cells: Sequence[Cell]) -> None:
        """Download the real weights that the cells need. Those that cannot be had fail when they are to be loaded."""
        specs = {case.spec.revision: case.spec for cell in cells for case in cell.cases if case.spec.revision}
        with self.budget.waiting():
            for revision, spec in specs.items():
                path = self.folder / "downloads" / f"{spec.model}.json"
                self.store.once(path, DOWNLOAD, partial(self._download, str(spec.entry.hub), str(revision)))

    def _download(self, repository: str, revision: str) -> str | None:
        self.tell(f"downloading {repository}")
        problem = download_weights(repository, revision, self.options.download_seconds)
        if problem is not None:
            self.tell(problem)
        return problem

    def _round(self, planner: RoundPlanner, number: int) -> Round:
        path = self.folder / "rounds" / f"{number}.json"
        return self.store.once(path, ROUND, lambda: planner.next_round(number, self._records(planner.cases)))

    def _records(self, names: Any) -> Records:
        return {name: self.store.records(name) for name in names}

    def _make_round(self, planner: RoundPlanner, current: Round) -> None:
        self.store.complete(
            {
                (planned.launch_name, planned.index): partial(self._make, planner, current, planned)
                for planned in current.launches
            }
        )

    def _make(self, planner: RoundPlanner, current: Round, planned: PlannedLaunch) -> Any:
        """One launch of a round."""
        cases = [case for case in planner.cases[planned.launch_name] if case.id in planned.cases]
        spec, index = cases[0].spec, planned.index
        prefix = f"{spec.launch_name}: "
        where = self.device if spec.platform in ("server", self.device.platform) else devices(spec.platform)[0]
        is_alone = not (planner.is_exact(planned) or self._keeps_apart(where, spec.device_count))
        open_launches = [
            one for one in current.launches if one is planned or not self.store.is_recorded(one.launch_name, one.index)
        ]
        self._standby.another_follows = current.launches[-1] is not planned
        options = self.options
        terms = Terms(options.deadline_seconds, options.stage_seconds, options.limits, self._peaks)
        folder = self.store.launch_folder(spec.launch_name, index)
        asked = time.monotonic()
        with self._held(where, spec.device_count, is_alone, prefix) as device:
            waited = time.monotonic() - asked
            at_once = 1 if is_alone else min(most_at_once(where, spec.device_count), options.processes)
            order = Order(
                spec,
                cases,
                index,
                device,
                folder,
                terms,
                StepTeller(self.tell, self._times, current, planned, open_launches, at_once),
                self._standby,
            )
            record = self.trial.measure(order)
        record.waited = waited
        self._times.learn(record)
        if record.error is not None:
            self.tell(f"{prefix}failed: {record.error}")
        return record

    def _keeps_apart(self, where: Device, count: int | None) -> bool:
        """Whether this machine was seen to keep launches of so many devices apart, so that times may be taken beside
        others."""
        return placed_class(where.device_class, where.platform, count) in self._undisturbed

    @contextmanager
    def _held(self, where: Device, count: int | None, is_alone: bool, prefix: str) -> Iterator[Device]:
        """A lease of the devices of a launch, like `where`; waiting for it is told and is no part of the budget."""
        with ExitStack() as stack:
            with self.budget.waiting():
                lease = placed(where, count, is_alone=is_alone, tell=lambda text: self.tell(prefix + text))
                device = stack.enter_context(lease)
            yield device

    def _finish(self, cells: Sequence[Cell], rounds: Sequence[Round]) -> RunResults:
        """Judge for good, and write the baselines if they are to be updated."""
        measured = Measured(
            run_id=self.folder.name,
            command=self.options.command,
            device=DeviceResult.model_validate(machine_facts(self.device) | {"peaks": self._peaks}),
            versions=suite_versions(self.device),
            records=self._records(cases_by_launch_name(cells)),
            rounds=rounds,
            elapsed=self.budget.elapsed,
            budget_seconds=self.budget.seconds,
        )
        return finish(self.trial, cells, measured)
