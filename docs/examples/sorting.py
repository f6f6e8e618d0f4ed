"""Sorting as a kind of work of its own: an engine, a procedure with two metrics and a report, in one file.

`docs/extending.md` explains it. The file is also its engine's worker program: the suite runs it by its path, under the
interpreter of an arm, where neither pydantic nor pytest need be installed. So the worker comes first and imports the
standard library and the protocol alone. What follows it is read only where the file is imported, as a pytest plugin.
"""

from __future__ import annotations

import operator
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hybrid_ops.engines.protocol import DeviceFacts, LoadFacts, Operation, serve

Less = Callable[[float, float], bool]


@dataclass(frozen=True)
class SortSample:
    """One list, sorted."""

    seconds: float
    comparisons: int
    is_sorted: bool


SORT = Operation("sort", SortSample)


def merge_sort(numbers: list[float], less: Less) -> list[float]:
    """Both halves sorted, then merged."""
    if len(numbers) < 2:
        return numbers
    middle = len(numbers) // 2
    left, right = merge_sort(numbers[:middle], less), merge_sort(numbers[middle:], less)
    merged = []
    i = j = 0
    while i < len(left) and j < len(right):
        if less(right[j], left[i]):
            merged.append(right[j])
            j += 1
        else:
            merged.append(left[i])
            i += 1
    return merged + left[i:] + right[j:]


def insertion_sort(numbers: list[float], less: Less) -> list[float]:
    """Each number put where it belongs among those before it."""
    placed: list[float] = []
    for number in numbers:
        place = len(placed)
        while place and less(number, placed[place - 1]):
            place -= 1
        placed.insert(place, number)
    return placed


ALGORITHMS = {"merge": merge_sort, "insertion": insertion_sort}


class Sorter:
    """The engine itself, in its worker process."""

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        """Answer `load`. A KeyError for an unknown algorithm is an answer too: its cells are `failed-to-run`."""
        self.algorithm = ALGORITHMS[arguments["algorithm"]]
        return LoadFacts(
            load_seconds=0.0,
            model_bytes=None,
            cache=None,
            device=DeviceFacts("cpu", name=None, uuid=None, memory_bytes=None, threads=1),
            reference_kernels=[],
            versions={"sorting": "1"},
            server=None,
        )

    def sort(self, numbers: int, seed: int) -> SortSample:
        """Sort drawn numbers: once for the time, and once more to count, because counting takes time."""
        draw = random.Random(seed)  # noqa: S311 - numbers to sort, not a secret
        drawn = [draw.random() for _ in range(numbers)]
        begin = time.perf_counter()
        found = self.algorithm(drawn, operator.lt)
        seconds = time.perf_counter() - begin
        comparisons = 0

        def counted(a: float, b: float) -> bool:
            nonlocal comparisons
            comparisons += 1
            return a < b

        self.algorithm(drawn, counted)
        return SortSample(seconds, comparisons, found == sorted(drawn))


def main() -> None:
    """Serve until the parent closes the pipe."""
    sorter = Sorter()
    serve({"load": sorter.load, SORT.name: sorter.sort})


if __name__ == "__main__":
    main()
    sys.exit()

# The parent's side, which a worker never reads.
# ruff: noqa: E402
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from hybrid_ops import report
from hybrid_ops.engines import registry
from hybrid_ops.engines.engine import Engine
from hybrid_ops.measure import procedures
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Metric, Scope, exact, latency
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, workload_of
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.report import Report, Section, Table
from hybrid_ops.workloads.base import Definition, Workload


class Sorting(Engine):
    """Sorts in plain Python. Its argument `algorithm` is `merge` or `insertion`."""

    name: ClassVar[str] = "sorting"
    worker: ClassVar[Path] = Path(__file__)
    operations: ClassVar[frozenset[str]] = frozenset({SORT.name})


class SortedNumbers(Workload):
    """An entry of the section `sorts` of a suites file."""

    numbers: int = Field(gt=0)
    seed: int = 42


SORT_MS = latency("sort_ms", "Time to sort the numbers once")
COMPARISONS = exact("comparisons", "comparisons", Scope.ANY, "Comparisons of two numbers until all are sorted")


class Sorts(Procedure):
    """A list of drawn numbers, sorted again and again."""

    name: ClassVar[str] = "sorting"
    section: ClassVar[str] = "sorts"
    definition_type: ClassVar[type[Definition]] = SortedNumbers
    operations: ClassVar[frozenset[str]] = frozenset({SORT.name})
    metrics: ClassVar[tuple[Metric, ...]] = (SORT_MS, COMPARISONS)
    pace: ClassVar[str | None] = SORT_MS.name
    headline: ClassVar[tuple[str, ...]] = (SORT_MS.name,)
    is_brief: ClassVar[bool] = True
    details_key: ClassVar[str | None] = "sorts"

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, SortedNumbers)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        workload = workload_of(iteration.case, SortedNumbers)
        sample = iteration.worker.ask(SORT, iteration.patience, numbers=workload.numbers, seed=workload.seed)
        if not sample.is_sorted:
            raise NotAMeasurement("the numbers are not in order")
        return {SORT_MS.name: 1e3 * sample.seconds, COMPARISONS.name: sample.comparisons}

    def details(self, case: Case) -> dict[str, Any] | None:
        workload = workload_of(case, SortedNumbers)
        return {"numbers": workload.numbers, "algorithm": case.spec.engine_arguments["algorithm"]}


HEADINGS = ("case", "algorithm", "numbers", "comparisons per number")


class SortTable(Report):
    """How many comparisons a number costs, in the terminal, in `summary.md` and in `sorting.csv`."""

    name: ClassVar[str] = "sorting"

    def section(self, run: RunResults) -> Section | None:
        rows = sort_rows(run)
        return Section("sorting", [Table(HEADINGS, rows)]) if rows else None

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        rows = sort_rows(run)
        if not rows:
            return []
        path = folder / "sorting.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADINGS, *rows])
        return [path]


def sort_rows(run: RunResults) -> list[tuple[str, ...]]:
    """One row for each case that was measured, the details of which `Sorts.details` gave."""
    rows: list[tuple[str, ...]] = []
    for case, details in run.details("sorts").items():
        for record in run.records_of(case)[:1]:  # an exact metric is the same in every launch
            each = float(record.cases[case].values[COMPARISONS.name]) / details["numbers"]
            rows.append((case, details["algorithm"], str(details["numbers"]), f"{each:.2f}"))
    return rows


registry.register(Sorting())
procedures.register(Sorts())
report.register(SortTable())
