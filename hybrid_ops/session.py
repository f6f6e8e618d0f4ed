"""One run of the suite: plan the launches, make them in rounds, judge, record.

Every process of a run (pytest-xdist starts several) goes through the same steps over one shared folder: a launch is
made by whichever process takes it first, and all read all of them. So cases of one engine spec stay together, verdicts
see the whole run, and results and baselines are written once.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from hybrid_ops.engines.devices import Device, devices, lease
from hybrid_ops.engines.spec import Case, EngineSpec
from hybrid_ops.engines.standby import Standby
from hybrid_ops.measure.conditions import Limits
from hybrid_ops.measure.environment import machine_facts, suite_versions
from hybrid_ops.measure.launch import LaunchRecord, run_launch
from hybrid_ops.measure.metrics import PEAK_METRICS, Kind
from hybrid_ops.measure.pair import Arm, Pair, PairRecord, run_pair
from hybrid_ops.measure.peaks import read_peaks, run_peaks
from hybrid_ops.measure.store import RunStore
from hybrid_ops.regression.baselines import Baselines
from hybrid_ops.regression.cells import Cell, CellResult, judge_cells, judge_pairs
from hybrid_ops.regression.claims import ClaimResult, Outcome, judge_claims
from hybrid_ops.regression.findings import findings
from hybrid_ops.regression.judge import Settings
from hybrid_ops.regression.noise import NOISE_FILE, MeasuredNoise
from hybrid_ops.regression.update import (
    LAUNCHES_OF_AN_UPDATE,
    SPARE_LAUNCHES_OF_AN_UPDATE,
    provenance,
    unsettled,
    update_baselines,
)
from hybrid_ops.report.rollout import rollout_text
from hybrid_ops.report.serving import serving_text
from hybrid_ops.report.summary import markdown
from hybrid_ops.workloads.serving import ServingWorkload
from hybrid_ops.workloads.workload import ComparedWorkload, Workload

RESULTS_SCHEMA_VERSION = 1
PEAKS_FILE = "peaks.json"
"""The peaks of a device class that were measured, beside its baselines."""
FIRST_LOOK_SECONDS, CLOSER_LOOK_SECONDS = 2.0, 6.0
"""How long a generation case is measured at least: at first, and where the answer is to be known closer, which is in an
update or a launch that is made because the first left it open."""
ESTIMATED_LAUNCH_SECONDS = 15.0
"""What a launch is taken to last until the first one has been timed."""


@dataclass(frozen=True)
class RunOptions:
    """What the command line says about a run."""

    device: Device
    """What baselines are looked up for: a device of this machine, or a running server."""
    baselines: Path
    update: bool
    most_launches: int
    budget_seconds: float
    deadline_seconds: float
    environment: dict[str, str | None]
    command: str
    limits: Limits
    arms: tuple[Arm, Arm] | None = None
    """The two sides of an A/B comparison; None: a comparison with the baselines."""
    arm_tolerance: float = 0.0
    """The largest relative change between arms that still passes."""

    @property
    def arms_differ(self) -> bool:
        """False for an A/A comparison."""
        return self.arms is not None and replace(self.arms[0], name="") != replace(self.arms[1], name="")


class PerfRun:
    """The run as one process of it sees it: single launches, compared with the baselines."""

    record_type: type[LaunchRecord] | type[PairRecord] = LaunchRecord

    def __init__(self, folder: Path, options: RunOptions, tell: Callable[[str], None]) -> None:
        self.store: RunStore[Any] = RunStore(folder, self.record_type)
        self.options = options
        self.tell = tell
        self.device = options.device
        self.baselines = Baselines(options.baselines, self.device)
        priors = Settings.for_platform(self.device.platform)
        self.settings = replace(priors, maximum_launches=options.most_launches)
        self.started = time.monotonic()
        self.cells: list[Cell] = []
        self.launch_seconds: list[float] = []
        """How long each launch made by this process took."""
        self.waited_seconds = 0.0
        """How long this process waited for devices that others held: no part of the budget."""
        self.recorded_peaks = options.baselines / self.device.device_class / PEAKS_FILE
        read_peaks(self.recorded_peaks)  # a broken file is found before anything is measured
        self.peaks: dict[str, Any] | None = None
        """The device's peaks, once they are known and if they are needed."""
        self.document: dict[str, Any] = {}
        """`results.json`, once the run is judged."""
        self._standby = Standby(folder / f"standby-{os.getpid()}")
        self._results: dict[str, CellResult] = {}

    def execute(self, cells: Sequence[Cell]) -> None:
        """Measure and judge `cells`. Afterwards `result` answers for each."""
        self.cells = list(cells)
        planned = _cases_by_spec(self.cells)
        self.peaks = self.store.once(self.store.folder / "peaks.json", self._measure_peaks)
        number = 1
        try:
            while wanted := self.store.once(
                self.store.folder / "rounds" / f"{number}.json", partial(self._next_round, planned, number)
            ):
                self._launch_round(number, planned, wanted)
                number += 1
        finally:
            self._standby.close()
        self.document = self.store.once(self.store.results_path, self._finish)
        (self.store.folder / "summary.md").write_text(markdown(self.document), encoding="utf-8")
        if text := serving_text(self.document):
            (self.store.folder / "serving.txt").write_text(text, encoding="utf-8")
        if text := rollout_text(self.document):
            (self.store.folder / "rollout.md").write_text(text + "\n", encoding="utf-8")
        self._results = {cell["cell"]: CellResult.from_json(cell) for cell in self.document["cells"]}

    def result(self, cell: Cell) -> CellResult:
        return self._results[cell.id]

    def launch(self, case: Case) -> LaunchRecord:
        """The first launch of the run that has values of `case`, of either arm. Raises LookupError without one."""
        for record in self.store.launches(case.spec.launch_name):
            for launch in getattr(record, "arms", [record]):
                if case.id in launch.cases and launch.cases[case.id].values:
                    return launch
        raise LookupError(f"no launch measured {case.id}")

    def _measure_peaks(self) -> dict[str, Any] | None:
        """The device's peaks, if a cell needs them."""
        specs = [cell.case.spec for cell in self.cells if cell.metric in PEAK_METRICS]
        if not specs:
            return None
        dtypes = {spec.layer_stack().dtype for spec in specs}
        with self._held(devices(self.device.platform), "the device's peaks: ") as device:
            try:
                return run_peaks(device, dtypes, self.recorded_peaks, self.options.update)
            except RuntimeError as error:
                self.tell(str(error))  # the cells that need them then say that they have no value
                return None

    def _next_round(self, planned: dict[str, list[Case]], number: int) -> dict[str, dict[str, Any]]:
        """The launches of round `number` by engine spec name: each its `index` and `cases`. None of them: the end."""
        records = self._all_launches(planned)
        return {
            name: {"index": len(records[name]) + 1, "cases": cases}
            for name, cases in self._wanted(planned, records, number).items()
        }

    def _wanted(
        self, planned: dict[str, list[Case]], records: dict[str, list[Any]], number: int
    ) -> dict[str, list[str]]:
        """The cases to measure in round `number`, by engine spec name.

        The first round launches everything. After it, what is still undecided is launched again as far as the budget
        goes; an update launches everything often enough to know its spread.
        """
        everything = {name: [case.id for case in cases] for name, cases in planned.items()}
        if number == 1:
            return everything
        # An exact metric is known after one launch.
        noisy = {
            case.spec.launch_name
            for cell in self.cells
            if cell.metric.kind is not Kind.EXACT
            for case in filter(None, (cell.case, cell.reference))
        }
        if self.options.update and number <= LAUNCHES_OF_AN_UPDATE + SPARE_LAUNCHES_OF_AN_UPDATE:
            again = unsettled(self.cells, records, self.settings)
            return {
                name: cases
                for name, cases in everything.items()
                if name in noisy
                and not _hopeless(records[name])
                and (_fit(records[name]) < LAUNCHES_OF_AN_UPDATE or name in again)
            }
        # A launch on an unfit machine is made again once, after all the others.
        if number == 2 and (unfit := [name for name, group in records.items() if group[0].unfit]):
            self.tell(f"launching again, because the machine was not fit: {', '.join(unfit)}")
            return {name: everything[name] for name in unfit}
        if number > self.options.most_launches:
            return {}
        results = self._judge(records, budget_left=True)
        undecided = {result.cell for result in results if not result.decided}
        undecided |= {claim.cell for claim in self._claims(records) if claim.outcome is Outcome.UNDECIDED}
        wanted: dict[str, list[str]] = {}
        open_cells: Counter[str] = Counter()
        for cell in self.cells:
            if cell.id in undecided:
                for case in filter(None, (cell.case, cell.reference)):
                    open_cells[case.spec.launch_name] += 1
                    cases = wanted.setdefault(case.spec.launch_name, [])
                    if case.id not in cases:
                        cases.append(case.id)
        durations = [record.seconds for group in records.values() for record in group]
        left = self.options.budget_seconds - (time.monotonic() - self.started - self.waited_seconds)
        return {name: wanted[name] for name in fitting(open_cells, durations, left)}

    def _launch_round(self, number: int, planned: dict[str, list[Case]], wanted: dict[str, dict[str, Any]]) -> None:
        makers: dict[tuple[str, int], Callable[[], Any]] = {}
        for position, (name, launch) in enumerate(wanted.items()):
            cases = [case for case in planned[name] if case.id in launch["cases"]]
            index = launch["index"]
            label = f"round {number}, {position + 1} of {len(wanted)}"
            makers[name, index] = partial(self._launch, cases[0].spec, cases, index, label, len(wanted) - position)
        self.store.complete(makers)

    def _launch(self, spec: EngineSpec, cases: list[Case], index: int, label: str, left: int) -> Any:
        durations = self.launch_seconds or [ESTIMATED_LAUNCH_SECONDS]
        minutes = left * sum(durations) / len(durations) / 60
        prefix = f"[{label}] {spec.launch_name}: "
        suffix = f" (about {minutes:.1f} min left in this round)"
        candidates = devices(spec.platform) if spec.running_server is None else (self.device,)
        self._standby.another_follows = left > 1
        with self._held(candidates, prefix) as device:
            record = self._measure(spec, cases, index, device, lambda text: self.tell(prefix + text + suffix))
        self.launch_seconds.append(record.seconds)
        if record.error is not None:
            self.tell(f"{prefix}failed: {record.error}")
        return record

    @contextmanager
    def _held(self, candidates: tuple[Device, ...], prefix: str) -> Iterator[Device]:
        """A lease of one of `candidates`; waiting for it is told and is no part of the budget."""
        asked = time.monotonic()
        with lease(candidates, lambda: self.tell(f"{prefix}waiting: another run holds the device")) as device:
            self.waited_seconds += time.monotonic() - asked
            yield device

    def _measure(
        self, spec: EngineSpec, cases: list[Case], index: int, device: Device, tell: Callable[[str], None]
    ) -> Any:
        """One record: here, of one launch."""
        return run_launch(
            spec,
            cases,
            index,
            device,
            self.store.launch_folder(spec.launch_name, index),
            self.options.deadline_seconds,
            self.options.environment,
            tell,
            limits=self.options.limits,
            peaks=self.peaks,
            least_seconds=CLOSER_LOOK_SECONDS if self.options.update or index > 1 else FIRST_LOOK_SECONDS,
            standby=self._standby,
        )

    def _judge(self, records: dict[str, list[Any]], budget_left: bool) -> list[CellResult]:
        return judge_cells(self.cells, records, self.baselines, self.settings, budget_left)

    def _claims(self, records: dict[str, list[Any]]) -> list[ClaimResult]:
        """What the launches so far say of the claims of a comparison. Arms are compared with each other alone."""
        return [] if self.options.arms is not None else judge_claims(self.cells, records, self.settings)

    def _all_launches(self, planned: dict[str, list[Case]]) -> dict[str, list[Any]]:
        return {name: self.store.launches(name) for name in planned}

    def _finish(self) -> dict[str, Any]:
        """Judge for good, update the baselines if asked to, and return `results.json`."""
        records = self._all_launches(_cases_by_spec(self.cells))
        results = self._judge(records, budget_left=False)
        versions = _versions(records)
        document: dict[str, Any] = {
            "schema": RESULTS_SCHEMA_VERSION,
            "run_id": self.store.folder.name,
            "command": self.options.command,
            "seconds": time.monotonic() - self.started,
            "device": machine_facts(self.device) | {"peaks": self.peaks},
            "versions": versions,
            "cells": [result.to_json() for result in results],
            "launches": [record.to_json() for group in records.values() for record in group],
            "loads": {
                case.id: case.workload.model_dump()
                for cases in _cases_by_spec(self.cells).values()
                for case in cases
                if isinstance(case.workload, ServingWorkload)
            },
            "rollouts": {
                case.id: {
                    **case.workload.model_dump(
                        include={"generation_tokens", "prompt_tokens", "num_prompts", "samples"}
                    ),
                    "published_length": case.workload.rollout_length,
                    "prompts": "drawn tokens" if case.workload.given_prompts is None else "given prompts",
                    "engine": case.spec.name,
                }
                for cases in _cases_by_spec(self.cells).values()
                for case in cases
                if isinstance(case.workload, Workload) and case.workload.rollout_length is not None
            },
            "comparisons": {
                case.id: {
                    **case.workload.model_dump(exclude={"given_prompts", "rollout_length", "place", "samples"}),
                    "model": case.spec.model,
                    "engine": case.spec.name,
                }
                for cases in _cases_by_spec(self.cells).values()
                for case in cases
                if isinstance(case.workload, ComparedWorkload) and self.options.arms is None
            },
            "claims": [claim.to_json() for claim in self._claims(records)],
            "arms": [asdict(arm) for arm in self.options.arms] if self.options.arms is not None else None,
            "findings": [] if self.options.arms is not None else findings(self.cells, results),
            "update": None,
        }
        starts = [record.started for group in records.values() for record in group]
        document["started"] = min(starts, default="")
        if self.options.update:
            recorded = provenance(self.store.folder.name, self.device.name, versions)
            outcome = update_baselines(self.cells, results, self.baselines, self.settings, recorded)
            recorded_cells = {f"{written.case}-{written.metric.name}" for written in outcome.written}
            results = [replace(result, recorded=result.cell in recorded_cells) for result in results]
            document["cells"] = [result.to_json() for result in results]
            document["update"] = {
                "written": [
                    {
                        "case": written.case,
                        "metric": written.metric.name,
                        "unit": written.metric.unit,
                        "old": written.old,
                        "new": written.new,
                        "file": str(written.path),
                    }
                    for written in outcome.written
                ],
                "kept": outcome.kept,
                "refused": outcome.refused,
            }
        return document


class ArmsRun(PerfRun):
    """A run that compares two arms, launch pair by launch pair. It needs no baseline, and the machine cancels."""

    record_type = PairRecord

    def __init__(self, folder: Path, options: RunOptions, tell: Callable[[str], None]) -> None:
        super().__init__(folder, options, tell)
        self.measured_noise = MeasuredNoise(options.baselines / self.device.device_class / NOISE_FILE)

    def _measure(
        self, spec: EngineSpec, cases: list[Case], index: int, device: Device, tell: Callable[[str], None]
    ) -> Any:
        assert self.options.arms is not None
        folder = self.store.launch_folder(spec.launch_name, index)
        return run_pair(
            Pair(spec, cases, index, device, folder, self.options.arms, self.options.deadline_seconds, tell)
        )

    def _judge(self, records: dict[str, list[Any]], budget_left: bool) -> list[CellResult]:
        noise = self.measured_noise.by_cell if self.options.arms_differ else {}
        return judge_pairs(self.cells, records, self.options.arm_tolerance, self.settings, noise, budget_left)

    def _finish(self) -> dict[str, Any]:
        """As for a plain run; an A/A comparison also adds what it learnt to the noise file of this device class."""
        document = super()._finish()
        if not self.options.arms_differ:
            results = [CellResult.from_json(cell) for cell in document["cells"]]
            document["noise"] = self.measured_noise.add(results, self.store.folder.name, self.settings)
        return document


def _cases_by_spec(cells: Sequence[Cell]) -> dict[str, list[Case]]:
    """The cases to measure, those that ratios are divided by included, by the name of the spec that they share."""
    planned: dict[str, dict[str, Case]] = {}
    for cell in cells:
        for case in filter(None, (cell.case, cell.reference)):
            planned.setdefault(case.spec.launch_name, {}).setdefault(case.id, case)
    return {name: list(cases.values()) for name, cases in planned.items()}


def fitting(open_cells: Counter[str], durations: Sequence[float], seconds_left: float) -> list[str]:
    """The engines to launch again in the time that is left, those with the most open cells first.

    `durations` are the seconds that launches have taken so far.
    """
    if not open_cells or seconds_left <= 0:
        return []
    return [name for name, _ in open_cells.most_common(int(seconds_left / fmean(durations)))]


def _hopeless(records: Sequence[Any]) -> bool:
    """Whether an engine has shown that it does not run, so that launching it again would only cost time."""
    return all(record.failed for record in records)


def _fit(records: Sequence[Any]) -> int:
    """How many launches were made on a fit machine."""
    return sum(not record.unfit for record in records)


def _versions(records: dict[str, list[Any]]) -> dict[str, str]:
    versions = suite_versions()
    for group in records.values():
        for record in group:
            versions.update(record.versions)
    return versions
