"""What can be compared: one reader a kind of source. To add one, write it and list it in `READERS`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.measure.procedures import find_metric
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.history.store import History, RunFacts
from hybrid_ops.regression.results import RESULTS_FILE, read_results
from hybrid_ops.report.compare.sides import Key, Side, SideCell
from hybrid_ops.report.interchange.formats import Source
from hybrid_ops.report.interchange.vllm_bench import DETAILS_KEY, VllmBench
from hybrid_ops.workloads.base import definition_hash

BENCH_LOAD = ("num_prompts", "max_concurrency", "request_rate", "burstiness")
"""What defines a load of `vllm bench serve`, of what its result says."""


def read_run(source: str, store: Path) -> Side | None:
    """A run's folder or its `results.json`."""
    path = Path(source)
    path = path / RESULTS_FILE if path.is_dir() else path
    if not path.is_file():
        return None
    run = read_results(path)
    if run.arms is not None:
        raise InputError(f"{path}: it compares two arms already; its own table says how")
    cells = {(cell.case, cell.metric): _side_cell(cell, cell.definition) for cell in run.cells}
    return Side(source, run.device.device_class, run.device.platform, RunFacts.of(run), cells)


def read_bench(source: str, store: Path) -> Side | None:
    """What `vllm bench serve --save-result` wrote; of several results of one load, each is a launch.

    A model is known by its name without the owner and a load by its numbers, whatever its label and backend: so two
    engines or two releases stand side by side.
    """
    path = Path(source)
    if not path.is_file() or not _is_bench(text := path.read_text(encoding="utf-8", errors="replace")):
        return None
    run = VllmBench().read(Source(path, text, "any/bench-serve", "not recorded"))
    [documents] = run.details(DETAILS_KEY).values()
    loads = [{name: one.get(name) for name in ("model_id", *BENCH_LOAD)} for one in documents]
    if any(load != loads[0] for load in loads):
        raise InputError(f"{source}: results of several loads; give each its own file")
    model = str(loads[0].pop("model_id")).rstrip("/").rpartition("/")[2]
    case, definition = f"{model}/bench-serve", definition_hash(json.dumps(loads[0], sort_keys=True))
    cells = {(case, cell.metric): _side_cell(cell, definition) for cell in run.cells}
    facts = RunFacts(source, datetime.fromisoformat(run.started), {}, {}, None, {case: {"arguments": loads[0]}})
    return Side(source, "not recorded", None, facts, cells)


def _is_bench(text: str) -> bool:
    """Whether a file begins with a result of `vllm bench serve`."""
    try:
        first, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except ValueError:
        return False
    return isinstance(first, dict) and {"model_id", "request_throughput"} <= first.keys()


def _side_cell(cell: CellResult, definition: str | None) -> SideCell:
    """A cell of a run, as one side of a comparison has it."""
    measured = cell.verdict.is_measured and bool(cell.launches)
    # Each launch had a bound of its own. What is kept is the bound of the launch whose value speaks for all.
    launches = cell.launches if cell.bound is None or cell.value is None else [cell.value]
    return SideCell(
        cell.unit,
        Kind(cell.kind),
        Direction(cell.direction),
        tuple(launches) if measured else (),
        definition,
        None if measured else f"{cell.verdict.value}: {cell.reason}",
        cell.bound,
        cell.rounding,
    )


def read_stored(source: str, store: Path) -> Side | None:
    """A run of the history by its name. It keeps one value a cell: no values of launches, no definition, no bound."""
    if Path(source).exists() or not store.is_file():
        return None
    with History(store) as history:
        found, facts = history.cells(source), history.facts(source)
    cells: dict[Key, SideCell] = {}
    for series, point in found:
        value = point.text if point.value is None else point.value
        if series.kind == Kind.EXACT and isinstance(value, float) and value.is_integer():
            value = int(value)  # SQLite has them all as floating-point numbers
        problem = point.verdict if value is None else None
        if (metric := find_metric(series.metric)) is not None and metric.is_bounded:
            problem = "the history keeps no bound of it: compare the run's folder"
        cells[series.case, series.metric] = SideCell(
            series.unit,
            Kind(series.kind),
            Direction(series.direction),
            () if value is None else (value,),
            None,
            problem,
        )
    return Side(source, found[0][0].device, found[0][0].device.partition("-")[0], facts, cells)


READERS: tuple[Callable[[str, Path], Side | None], ...] = (read_bench, read_run, read_stored)
"""Each reads a source of its own kind and says None of any other."""


def read_side(source: str, store: Path) -> Side:
    """The side that a source names. Raises InputError."""
    for reader in READERS:
        side = reader(source, store)
        if side is not None:
            return side
    raise InputError(
        f"{source}: nothing to compare is there; give a run's folder, a {RESULTS_FILE}, the JSON of vllm bench serve, "
        f"or the name of a run in the history {store} (--store)"
    )
