"""What can be compared: one reader a kind of source. To add one, write it and list it in `READERS`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.measure.procedures.serving import SERVING_METRICS, TOTAL_OUTPUT_TOKENS
from hybrid_ops.regression.history.store import History, RunFacts
from hybrid_ops.regression.results import RESULTS_FILE, read_results
from hybrid_ops.report.compare.sides import Key, Side, SideCell
from hybrid_ops.workloads.base import definition_hash

BENCH_LOAD = ("num_prompts", "max_concurrency", "request_rate", "burstiness")
"""What defines a load of `vllm bench serve`, of what its result says."""
BENCH_METRICS = [metric for metric in SERVING_METRICS if metric is not TOTAL_OUTPUT_TOKENS]
"""What is compared of such a result, under the same names. How many tokens it generated the model may decide."""


def read_run(source: str, store: Path) -> Side | None:
    """A run's folder or its `results.json`."""
    path = Path(source)
    path = path / RESULTS_FILE if path.is_dir() else path
    if not path.is_file() or _bench_results(path):
        return None
    run = read_results(path)
    if run.arms is not None:
        raise InputError(f"{path}: it compares two arms already; its own table says how")
    cells = {
        (cell.case, cell.metric): SideCell(
            cell.unit,
            Kind(cell.kind),
            Direction(cell.direction),
            tuple(cell.launches) if cell.verdict.is_measured else (),
            cell.definition,
            None if cell.verdict.is_measured and cell.launches else f"{cell.verdict.value}: {cell.reason}",
        )
        for cell in run.cells
    }
    return Side(source, run.device.device_class, run.device.platform, RunFacts.of(run), cells)


def read_bench(source: str, store: Path) -> Side | None:
    """What `vllm bench serve --save-result` wrote; of several results of one load, each is a launch."""
    results = _bench_results(Path(source))
    if not results:
        return None
    first = results[0]
    load = {name: first.get(name) for name in BENCH_LOAD}
    if any({name: one.get(name) for name in BENCH_LOAD} != load for one in results):
        raise InputError(f"{source}: results of several loads; give each its own file")
    case = f"{str(first['model_id']).rpartition('/')[2]}/bench-serve"
    problem = next((fault for one in results if (fault := _failed_requests(one))), None)
    cells: dict[Key, SideCell] = {}
    for metric in BENCH_METRICS:
        told = [one.get(metric.name) for one in results]
        values = tuple(value for value in told if isinstance(value, int | float) and math.isfinite(value))
        if len(values) == len(told):
            cells[case, metric.name] = SideCell(
                metric.unit,
                metric.kind,
                metric.direction,
                () if problem else values,
                definition_hash(json.dumps(load, sort_keys=True)),
                problem,
            )
    facts = RunFacts(source, datetime.fromtimestamp(0, UTC), {}, {}, None, {case: {"arguments": load}})
    return Side(source, "not recorded", None, facts, cells)


def _bench_results(path: Path) -> list[dict[str, Any]]:
    """The results in a file of `vllm bench serve`: one JSON object, or one a line. Empty for any other file."""
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        try:
            documents = [json.loads(text)]
        except ValueError:
            documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError):
        return []
    documents = documents[0] if len(documents) == 1 and isinstance(documents[0], list) else documents
    is_bench = all(isinstance(one, dict) and {"model_id", "request_throughput"} <= one.keys() for one in documents)
    return documents if is_bench else []


def _failed_requests(result: dict[str, Any]) -> str | None:
    """What is said of a load some of whose requests failed: its rates and times are those of the others."""
    asked, completed = result.get("num_prompts"), result.get("completed")
    if isinstance(asked, int) and isinstance(completed, int) and completed < asked:
        return f"{asked - completed} of {asked} requests failed"
    return None


def read_stored(source: str, store: Path) -> Side | None:
    """A run of the history by its name. It keeps one value a cell, not those of the launches, and no definition."""
    if Path(source).exists() or not store.is_file():
        return None
    with History(store) as history:
        found, facts = history.cells(source), history.facts(source)
    cells: dict[Key, SideCell] = {}
    for series, point in found:
        value = point.text if point.value is None else point.value
        if series.kind == Kind.EXACT and isinstance(value, float) and value.is_integer():
            value = int(value)  # SQLite has them all as floating-point numbers
        cells[series.case, series.metric] = SideCell(
            series.unit,
            Kind(series.kind),
            Direction(series.direction),
            () if value is None else (value,),
            None,
            point.verdict if value is None else None,
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
