"""llama-bench's own table of a run's tests, and models that were measured in two engines side by side.

A t/s is the mean over all samples of all launches, and the deviation is that of the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.measure.metrics import MODEL_BYTES, OUTPUT_THROUGHPUT
from hybrid_ops.measure.procedures.llama_bench import (
    MODEL_PARAMETERS,
    TOKENS_PER_SECOND,
    LlamaBenchTests,
    WholeGenerations,
)
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.energy import energy_lines
from hybrid_ops.report.report import Block, Lines, Preformatted, Report, Section, Shown, Table

FILE = "llama_bench.md"
PROCESSOR = "CPU"
"""The backend whose rows show threads in place of layers on the GPU."""
GIB, MIB = 1 << 30, 1 << 20


@dataclass(frozen=True)
class Column:
    """A column of llama-bench's table."""

    name: str
    width: int
    is_left: bool = False

    def show(self, text: str) -> str:
        return text.ljust(self.width) if self.is_left else text.rjust(self.width)

    @property
    def rule(self) -> str:
        return "-" * self.width if self.is_left else "-" * (self.width - 1) + ":"


@dataclass(frozen=True)
class ModelTable:
    """The tests of one model and configuration."""

    heading: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, str]]
    build: str

    @property
    def lines(self) -> list[str]:
        """In the form that llama-bench prints."""
        return [
            self.heading,
            "| " + " | ".join(column.show(column.name) for column in self.columns) + " |",
            "| " + " | ".join(column.rule for column in self.columns) + " |",
            *("| " + " | ".join(column.show(row[column.name]) for column in self.columns) + " |" for row in self.rows),
            "",
            self.build,
        ]


class LlamaBenchTables(Report):
    """A table for each model and configuration, in files in the form that llama-bench prints, and one of engines."""

    name: ClassVar[str] = "llama-bench"

    def section(self, run: RunResults) -> Section | None:
        blocks: list[Block] = []
        for table in _tables(run):
            names = [column.name for column in table.columns]
            blocks += [
                Preformatted(table.lines, Shown.SUMMARY),  # too wide for a terminal
                Lines([table.heading], shown=Shown.TERMINAL),
                Table(names, [[row[name] for name in names] for row in table.rows], shown=Shown.TERMINAL),
                Lines([table.build], shown=Shown.TERMINAL),
            ]
        if rows := engine_rows(run):
            blocks.append(Table(("workload", "engine", "version", "output tok/s", "ratio"), rows))
        return Section("llama-bench", [*blocks, Lines(energy_lines(run))]) if blocks else None

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        tables = _tables(run)
        if not tables:
            return []
        path = folder / FILE
        path.write_text("\n\n".join("\n".join(table.lines) for table in tables) + "\n", encoding="utf-8")
        return [path]


def _tables(run: RunResults) -> list[ModelTable]:
    by_engine: dict[str, list[tuple[str, Sequence[LaunchRecord], str]]] = {}
    assert LlamaBenchTests.details_key is not None
    for case, told in run.details(LlamaBenchTests.details_key).items():
        if records := run.records_of(case):
            by_engine.setdefault(told["engine"], []).append((case, records, told["test"]))
    return [_table(engine, measured) for engine, measured in by_engine.items()]


def _table(engine: str, measured: Sequence[tuple[str, Sequence[LaunchRecord], str]]) -> ModelTable:
    first = measured[0][1][0].cases[measured[0][0]].iterations[0]
    columns = _columns(str(first["backends"]))
    rows = []
    for case, records, test in measured:
        iterations = [iteration for record in records for iteration in record.cases[case].iterations]
        rows.append(_row(iterations, test))
    launches = max(len(records) for _, records, _ in measured)
    return ModelTable(
        f"{engine} ({launches} {'launch' if launches == 1 else 'launches'})",
        columns,
        rows,
        f"build: {first['build_commit']} ({first['build_number']})",
    )


def _columns(backend: str) -> list[Column]:
    where = Column("threads", 7) if backend == PROCESSOR else Column("ngl", 3)
    return [
        Column("model", 30, is_left=True),
        Column("size", 10),
        Column("params", 10),
        Column("backend", 10, is_left=True),
        where,
        Column("fa", 2),
        Column("test", 15),
        Column("t/s", 20),
    ]


def _row(iterations: Sequence[Mapping[str, Any]], test: str) -> dict[str, str]:
    told = iterations[0]
    size, parameters = told[MODEL_BYTES.name], told[MODEL_PARAMETERS.name]
    rate, deviation = pooled(
        [(one[TOKENS_PER_SECOND.name], one["deviation"], one["repetitions"]) for one in iterations]
    )
    return {
        "model": told["model_type"],
        "size": f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / MIB:.2f} MiB",
        "params": f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.2f} M",
        "backend": told["backends"],
        "ngl": str(told["n_gpu_layers"]),
        "threads": str(told["n_threads"]),
        "fa": told["flash_attn"],
        "test": test,
        "t/s": f"{rate:.2f} ± {deviation:.2f}",
    }


def pooled(groups: Sequence[tuple[float, float, int]]) -> tuple[float, float]:
    """The mean and sample deviation of all samples, from (mean, deviation, number) of each group of them."""
    count = sum(number for _, _, number in groups)
    mean = sum(centre * number for centre, _, number in groups) / count
    squares = sum((number - 1) * deviation**2 + number * (centre - mean) ** 2 for centre, deviation, number in groups)
    return mean, math.sqrt(squares / (count - 1)) if count > 1 else 0.0


def engine_rows(run: RunResults) -> list[tuple[str, ...]]:
    """Two rows for each workload that a model was asked in two engines; the ratio is to the first."""
    rows: list[tuple[str, ...]] = []
    assert WholeGenerations.details_key is not None
    for case, told in run.details(WholeGenerations.details_key).items():
        first, second = (run.medians(name).get(OUTPUT_THROUGHPUT.name) for name in (told["own"], case))
        if first is None or second is None:
            continue
        for name, engine, value in ((told["own"], told["own_engine"], first), (case, told["engine"], second)):
            version = run.records_of(name)[0].versions.get(VERSION_OF.get(engine, engine), "")
            rows.append((name, engine, version, f"{value:.1f}", f"{value / first:.2f}"))
    return rows


VERSION_OF = {"llama-bench": "llama.cpp"}
"""Under which name an engine gives its version, where it is not its own."""
