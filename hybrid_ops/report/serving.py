"""What the serving cases of a run say: the load generator's result block, a table over loads, and the knee of a sweep.

Everything here is read from `results.json`; a figure is the median over the case's launches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.measure.knee import SweepPoint, knee
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.render import aligned
from hybrid_ops.report.report import Lines, Preformatted, Report, Section, Shown, Table

WIDTH = 50
HEADINGS = (
    ("ttft", "TTFT", "Time to First Token"),
    ("tpot", "TPOT", "Time per Output Token (excl. 1st token)"),
    ("itl", "ITL", "Inter-token Latency"),
    ("e2el", "E2EL", "End-to-end Latency"),
)
"""The block's latencies: the metric's name, its short name and the line above its figures."""
RATES = (
    ("Request throughput (req/s):", "request_throughput"),
    ("Request goodput (req/s):", "request_goodput"),
    ("Output token throughput (tok/s):", "output_throughput"),
    ("Total Token throughput (tok/s):", "total_token_throughput"),
)
REQUESTS = (("Successful requests:", "completed"), ("Failed requests:", "failed"))
COUNTED = (
    ("Benchmark duration (s):", "duration", ".2f"),
    ("Total input tokens:", "total_input_tokens", ".0f"),
    ("Total generated tokens:", "total_output_tokens", ".0f"),
)
COLUMNS = ("case", "concurrency", "req/s", "output tok/s", "total tok/s", "mean TTFT ms", "mean TPOT ms", "mean ITL ms",
           "p99 ITL ms", "mean E2EL ms")  # fmt: skip
COLUMN_METRICS = ("request_throughput", "output_throughput", "total_token_throughput", "mean_ttft_ms", "mean_tpot_ms",
                  "mean_itl_ms", "p99_itl_ms", "mean_e2el_ms")  # fmt: skip


SERVING_FILE = "serving.txt"


class ServingTables(Report):
    """The table over loads and the knees; with `-v` and in `serving.txt` every result block too."""

    name: ClassVar[str] = "serving"

    def section(self, run: RunResults) -> Section | None:
        loads = measured_loads(run)
        if not loads:
            return None
        return Section(
            "serving",
            [
                Table(COLUMNS, _rows(loads)),
                Lines(knee_lines(loads)),
                Preformatted(result_blocks(loads), Shown.VERBOSE),
                Lines(["every result block: -v, or the file"], shown=Shown.BRIEF),
            ],
        )

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        loads = measured_loads(run)
        if not loads:
            return []
        path = folder / SERVING_FILE
        path.write_text("\n".join([*load_table(loads), "", *result_blocks(loads)]) + "\n", encoding="utf-8")
        return [path]


@dataclass(frozen=True)
class MeasuredLoad:
    """One serving case of a run: its load and the median values of its launches."""

    case: str
    load: Mapping[str, Any]
    """The workload's own fields, as the run recorded them."""
    values: Mapping[str, float]
    launches: int

    @property
    def sweep(self) -> str | None:
        """The sweep that the case is a point of, with its model: `llama-tiny/serving-chat`."""
        name = self.load["sweep"]
        return None if name is None else f"{self.case.partition('/')[0]}/{name}"


def measured_loads(run: RunResults) -> list[MeasuredLoad]:
    """The serving cases of a run that have values, in the order of the run."""
    return [
        MeasuredLoad(name, load, medians, len(run.records_of(name)))
        for name, load in run.details("loads").items()
        if (medians := run.medians(name))
    ]


def result_block(measured: MeasuredLoad) -> list[str]:
    """The block that `vllm bench serve` prints, line by line, with the percentiles that are measured here."""
    values, load = measured.values, measured.load
    lines = [" Serving Benchmark Result ".center(WIDTH, "=")]
    lines += [block_line(label, f"{values[name]:.0f}") for label, name in REQUESTS if name in values]
    if load["max_concurrency"] != "unlimited":
        lines.append(block_line("Maximum request concurrency:", str(load["max_concurrency"])))
    if load["request_rate"] != "unlimited":
        lines.append(block_line("Request rate configured (RPS):", f"{load['request_rate']:.2f}"))
    lines += [block_line(label, format(values[name], form)) for label, name, form in COUNTED if name in values]
    lines += [block_line(label, f"{values[name]:.2f}") for label, name in RATES if name in values]
    for name, short, heading in HEADINGS:
        if f"mean_{name}_ms" in values:
            lines.append(heading.center(WIDTH, "-"))
            for statistic in ("mean", "median", "p90", "p95", "p99"):
                if (value := values.get(f"{statistic}_{name}_ms")) is not None:  # others ask for fewer percentiles
                    lines.append(block_line(f"{statistic.title()} {short} (ms):", f"{value:.2f}"))
    return [*lines, "=" * WIDTH]


def block_line(label: str, value: str) -> str:
    """A line of the block: what, and its figure in the column of figures."""
    return f"{label:<40} {value:<10}".rstrip()


def load_table(loads: Sequence[MeasuredLoad]) -> list[str]:
    """One row a load with its headline figures, and under it the knee of each sweep."""
    return aligned([COLUMNS, *_rows(loads)]) + knee_lines(loads)


def _rows(loads: Sequence[MeasuredLoad]) -> list[tuple[str, ...]]:
    return [
        (
            measured.case,
            str(measured.load["max_concurrency"]),
            *(f"{measured.values[name]:.2f}" if name in measured.values else "—" for name in COLUMN_METRICS),
        )
        for measured in loads
    ]


def sweep_point(measured: MeasuredLoad) -> SweepPoint:
    """A load as a point of its sweep: requests a second, and the mean latency that they cost."""
    concurrency, values = str(measured.load["max_concurrency"]), measured.values
    return SweepPoint(concurrency, values["request_throughput"], values["mean_e2el_ms"])


def knee_lines(loads: Sequence[MeasuredLoad]) -> list[str]:
    """Where each sweep has its knee, in one line each."""
    sweeps: dict[str, list[SweepPoint]] = {}
    for measured in loads:
        if measured.sweep is not None:
            sweeps.setdefault(measured.sweep, []).append(sweep_point(measured))
    lines = []
    for name, points in sweeps.items():
        if (best := knee(points)) is not None:
            lines.append(
                f"{name}: the knee is at concurrency {best.label}: {best.throughput:.4g} req/s at "
                f"{best.cost:.4g} ms, the most throughput for its latency"
            )
    return lines


def result_blocks(loads: Sequence[MeasuredLoad]) -> list[str]:
    """Every load's block, each under a line that names it."""
    lines: list[str] = []
    for measured in loads:
        head = f"{measured.case} (median of {measured.launches} launches): {measured.load['description']}"
        lines += ["", head, *result_block(measured)]
    return lines[1:]
