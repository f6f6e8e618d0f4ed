"""An entry of a benchmark log: a run's generations as tables of configurations by models, in Markdown.

The form is that of the generation benchmark log (`hybrid-perf published generation_benchmark_log`): a dated heading,
the hardware, one table a metric, notes. A figure is the median over the launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import format_table
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.numbers import show, show_change
from hybrid_ops.report.table import counts

HEAD = "# Generation Benchmark Log\n\nMedians over the launches of a run. Throughput: higher is better.\n"
ABSENT = "—"


@dataclass(frozen=True)
class Quantity:
    """A column of each model in a table."""

    metric: str
    label: str = ""
    """What stands behind the model's name, where a table has several columns a model."""
    scale: float = 1.0
    """Of our unit in the table's."""


TABLES = (
    ("E2E throughput (tok/s)", (Quantity("output_throughput"),)),
    ("Decode throughput (tok/s)", (Quantity("decode_throughput"),)),
    ("Per-step decode latency (ms)", (Quantity("median_step_ms", "P50"), Quantity("p95_step_ms", "P95"))),
    ("TTFT / prefill (ms)", (Quantity("median_ttft_ms"),)),
    (
        "KV cache memory (MB) and peak memory (GB)",
        (Quantity("kv_cache_bytes", "cache", 1e-6), Quantity("peak_memory_bytes", "peak", 1e-9)),
    ),
)
"""The log's tables in its order."""
GENERATION_METRIC = "decode_throughput"
"""The metric that tells a generation from other kinds of work."""
OTHER_KINDS = ("rollouts", "comparisons", "loads")
"""What has tables of its own, by the name that a run tells of it under."""


def log_entry(run: RunResults, title: str = "", notes: Sequence[str] = ()) -> str:
    """The entry of a run. Raises InputError for a run of two arms and for one without a generation."""
    if run.arms is not None:
        raise InputError("a comparison of two arms has no figures of its own; log the run of one engine")
    elsewhere = {case for kind in OTHER_KINDS for case in run.details(kind)}
    cells = [cell for cell in run.cells if cell.case not in elsewhere]
    cases = list(dict.fromkeys(cell.case for cell in cells if cell.metric == GENERATION_METRIC))
    if not cases or not run.started:
        raise InputError("no generation was measured; pytest --perf --perf-suite full measures all seven")
    models = list(dict.fromkeys(case.partition("/")[0] for case in cases))
    workloads = list(dict.fromkeys(case.partition("/")[2] for case in cases))
    medians = {case: run.medians(case) for case in cases}
    parts = [
        f"## {datetime.fromisoformat(run.started):%Y-%m-%d} — {title or run.run_id}",
        f"**Hardware**: {_hardware(run)}",
        f"Run `{run.run_id}`: `{run.command}`",
    ]
    for heading, quantities in TABLES:
        rows = _rows(models, workloads, medians, quantities)
        if len(rows) > 1:
            parts += [f"### {heading}", format_table(rows)]
    told = [*notes, *_notes(run, [cell for cell in cells if cell.case in medians])]
    return "\n\n".join([*parts, "### Notes", "\n".join(f"- {note}" for note in told)])


def _hardware(run: RunResults) -> str:
    """`NVIDIA H200 (141 GB, 16 cores, Linux 6.8, vllm 0.32.0, torch 2.13.0)`."""
    device = run.device
    versions = [f"{name} {version}" for name, version in run.versions.items()]
    facts = [show(device.memory_bytes, "B"), f"{device.cores} cores", f"kernel {device.kernel}", *versions]
    return f"{device.name} ({', '.join(facts)})"


def _rows(
    models: Sequence[str],
    workloads: Sequence[str],
    medians: dict[str, dict[str, float]],
    quantities: Sequence[Quantity],
) -> list[list[str]]:
    """Configurations by models, below the headings; without the configurations that no model has a figure of."""
    columns = [(model, quantity) for model in models for quantity in quantities]
    rows = [["Config", *(f"{model} {quantity.label}".strip() for model, quantity in columns)]]
    for workload in workloads:
        cells = []
        for model, quantity in columns:
            value = medians.get(f"{model}/{workload}", {}).get(quantity.metric)
            cells.append(ABSENT if value is None else _shown(value * quantity.scale))
        if set(cells) != {ABSENT}:
            rows.append([workload, *cells])
    return rows


def _shown(value: float) -> str:
    """One decimal as the log has it; more below 10, where a tiny model's times would lose their digits."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _notes(run: RunResults, cells: Sequence[CellResult]) -> list[str]:
    """How many launches, what the verdicts were, what moved and what failed."""
    launches = sorted({len(run.records_of(cell.case)) for cell in cells} - {0})
    spread = "–".join(str(count) for count in dict.fromkeys((launches[0], launches[-1]))) if launches else "0"
    notes = [f"Launches a model: {spread}; against the baselines: {counts(cells)}."]
    for cell in cells:
        if cell.verdict in (Verdict.SLOWER, Verdict.FASTER, Verdict.CHANGED):
            change = show_change(cell.change)
            notes.append(
                f"{cell.case} {cell.metric}: {cell.verdict.value}, {show(cell.baseline, cell.unit)} → "
                f"{show(cell.value, cell.unit)}{f' ({change})' if change else ''}."
            )
    failed = {
        (cell.case, cell.verdict.value, cell.reason)
        for cell in cells
        if cell.verdict in (Verdict.FAILED_TO_RUN, Verdict.INVALID_ENVIRONMENT, Verdict.EXPECTED_FAILURE)
    }
    return [*notes, *(f"{case}: {verdict}: {reason}" for case, verdict, reason in sorted(failed))]
