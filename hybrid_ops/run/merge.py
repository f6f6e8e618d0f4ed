"""One run made of its shards: all cells judged anew together, as if one machine had measured them."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.measure.peaks import read_peaks
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.measure.store import RunStore, make_run_folder, write_json
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.regression.cost import Cost, LeftOut, known_sum
from hybrid_ops.regression.results import DeviceResult, RunResults
from hybrid_ops.run.finish import Measured, finish
from hybrid_ops.run.options import RunOptions
from hybrid_ops.run.plan import SuitePlan
from hybrid_ops.run.rounds import Round, cases_by_launch_name
from hybrid_ops.run.run import PEAKS, PEAKS_FILE, ROUND
from hybrid_ops.run.shard_file import ShardFile
from hybrid_ops.run.shard_runs import ShardRun
from hybrid_ops.run.shards import OPTION
from hybrid_ops.run.trial import Records, make_trial

LAUNCHES = "launches"
OWN_OPTIONS = (OPTION, "--perf-run-id")
"""Options of one shard alone."""
OWN_PEAKS = (
    "MFU and MBU are shares of peaks that each shard has measured for itself: record peaks.json by an update on one "
    "machine before shards are compared."
)


@dataclass(frozen=True)
class Place:
    """Where a merged run lies, and what it is compared with."""

    folder: Path
    """The new folder of the run."""
    baselines: Path
    history: Path | None


def merge(shards: Sequence[ShardRun], place: Place) -> RunResults:
    """Make the run's folder, judge all cells together, write the baselines where the shards were made for an update,
    and write `results.json`. Raises InputError.
    """
    told = shards[0].told
    cells = whole_cells(told)
    options = replace(told.run, baselines=place.baselines, history=place.history, command=whole_command(told.run))
    trial = make_trial(options)
    by_launch = _records(shards)
    records = {name: by_launch.get(name, []) for name in cases_by_launch_name(cells)}
    _check_same(shards, cells, trial.judge(cells, records, budget_left=False))
    peaks = joined_peaks(shards, options)
    make_run_folder(place.folder, name_option="--output", place_option="--output")
    store: RunStore[Any] = RunStore(place.folder, trial.record_type)
    rounds = joined_rounds([shard.rounds for shard in shards])
    _keep_launches(shards, store, by_launch)
    write_json(place.folder / PEAKS_FILE, PEAKS.dump_python(peaks, mode="json"))
    for one in rounds:
        write_json(place.folder / "rounds" / f"{one.number}.json", ROUND.dump_python(one, mode="json"))
    measured = Measured(
        run_id=place.folder.name,
        command=options.command,
        device=joined_device([shard.results.device for shard in shards], peaks),
        versions={name: version for shard in shards for name, version in shard.results.versions.items()},
        records=records,
        rounds=rounds,
        elapsed=math.fsum(shard.results.seconds for shard in shards),
        budget_seconds=options.budget_seconds,
    )
    if options.update and peaks is not None:
        _record_peaks(options, peaks)
    results = finish(trial, cells, measured)
    _add_up(results, shards)
    if peaks is None and any(shard.results.device.peaks for shard in shards):
        results.findings.append(OWN_PEAKS)
    results.write(place.folder)
    return results


def whole_cells(told: ShardFile) -> list[Cell]:
    """The cells of the whole run, as this checkout has them. Raises InputError."""
    suite = replace(told.suite, models_files=tuple(path.absolute() for path in told.suite.models_files))
    known = {cell.id: cell for cell in SuitePlan(replace(suite, is_elsewhere=True)).cells()}
    for name in told.cells:
        if name not in known:
            raise InputError(f"the suite {suite.suite} has no cell {name} here: merge in the checkout of the shards")
    return [known[name] for name in told.cells]


def whole_command(options: RunOptions) -> str:
    """The command of a shard without what is its own."""
    kept: list[str] = []
    words = iter(shlex.split(options.command))
    for word in words:
        if word in OWN_OPTIONS:
            next(words, None)
        elif not word.startswith(tuple(f"{name}=" for name in OWN_OPTIONS)):
            kept.append(word)
    return shlex.join(kept)


def _records(shards: Sequence[ShardRun]) -> Records:
    found: dict[str, list[Any]] = {}
    for shard in shards:
        for record in shard.results.launches:
            found.setdefault(record.launch_name, []).append(record)
    return {name: sorted(group, key=lambda record: record.index) for name, group in found.items()}


def _check_same(shards: Sequence[ShardRun], cells: Sequence[Cell], judged: Sequence[CellResult]) -> None:
    """Raise InputError where a cell is here another one than was measured, or has another baseline."""
    measured = {cell.cell: (shard, cell) for shard in shards for cell in shard.results.cells}
    for here in judged:
        shard, there = measured[here.cell]
        for what in ("definition", "baseline", "tolerance"):
            ours, theirs = getattr(here, what), getattr(there, what)
            if ours != theirs:
                raise InputError(
                    f"{here.cell}: {what}: {ours} here, and {theirs} in {shard.folder}: merge in the checkout that was "
                    "measured, with its baselines as they were"
                )


def joined_rounds(shards: Sequence[Sequence[Round]]) -> list[Round]:
    """The rounds of all shards as those of one run: the first of each together, then the second, and so on.

    A shard that had fewer rounds than another has left out in the others what it left out in its last.
    """
    joined = []
    for number, beside in enumerate(zip_longest(*shards), start=1):
        left_out: list[LeftOut] = []
        for rounds, one in zip(shards, beside):
            left_out += (one or rounds[-1]).left_out
        launches = [launch for one in beside if one is not None for launch in one.launches]
        joined.append(Round(number, launches, left_out))
    return joined


def joined_device(devices: Sequence[DeviceResult], peaks: DevicePeaks | None) -> DeviceResult:
    """The device of the whole run: what is the same on all machines, null where they differ."""

    def common(values: Sequence[Any]) -> Any:
        return values[0] if all(value == values[0] for value in values) else None

    names = ("uuid", "cores", "memory_bytes", "kernel")
    own = {name: common([getattr(one, name) for one in devices]) for name in names}
    settings = {name: common([one.settings.get(name) for one in devices]) for name in devices[0].settings}
    return devices[0].model_copy(update={**own, "settings": settings, "peaks": peaks})


def joined_peaks(shards: Sequence[ShardRun], options: RunOptions) -> DevicePeaks | None:
    """The peaks that all shards measured against; None where none did, or where each has its own.

    Raises InputError for an update with different ones: two utilisations compare only at equal peaks.
    """
    known = [peaks for shard in shards if (peaks := shard.results.device.peaks) is not None]
    if not known:
        return None
    joined = replace(known[0], flops={dtype: rate for peaks in known for dtype, rate in peaks.flops.items()})
    if all(peaks.bandwidth == joined.bandwidth and peaks.flops.items() <= joined.flops.items() for peaks in known):
        return joined
    if options.update:
        path = options.class_folder / PEAKS_FILE
        raise InputError(f"{path}: each shard has measured other peaks: record them by an update on one machine first")
    return None


def _record_peaks(options: RunOptions, peaks: DevicePeaks) -> None:
    """Write the peaks that an update on one machine would have written: a CPU's, which are in no table."""
    path = options.class_folder / PEAKS_FILE
    if options.device.platform == "cpu" and read_peaks(path) != peaks:
        write_json(path, asdict(peaks))


def _keep_launches(shards: Sequence[ShardRun], store: RunStore[Any], records: Records) -> None:
    """Copy the logs of all launches into the run's folder, and record each launch with its log's new place."""
    for shard in shards:
        for launch in shard.results.single_launches:
            _keep_log(launch, shard.folder, store.folder)
    for group in records.values():
        for record in group:
            store.keep(record)


def _keep_log(launch: LaunchRecord, source: Path, target: Path) -> None:
    """Copy a launch's log. The results name it by the path of the machine that made it."""
    parts = Path(launch.log).parts
    if LAUNCHES not in parts:
        return
    inner = Path(*parts[len(parts) - 1 - parts[::-1].index(LAUNCHES) :])
    launch.log = str((target / inner).absolute())
    if (source / inner).is_file():
        (target / inner).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / inner, target / inner)


def _add_up(results: RunResults, shards: Sequence[ShardRun]) -> None:
    """Let the run's seconds be those of all machines together: clocks of several machines tell no other sum."""
    costs: list[Cost] = [shard.results.cost for shard in shards if shard.results.cost is not None]
    if results.cost is None or len(costs) < len(shards):
        return
    names = ("seconds", "launching_seconds", "waiting_seconds", "other_seconds")
    sums: dict[str, Any] = {name: math.fsum(getattr(cost, name) for cost in costs) for name in names}
    sums["gpu_seconds"] = known_sum(cost.gpu_seconds for cost in costs)
    results.cost = results.cost.model_copy(update=sums)
    results.seconds = results.cost.seconds
