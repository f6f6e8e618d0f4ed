"""Kernels as the attention benchmark prints them: a box, whether all agree, the table, the mask. Then the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tabulate import tabulate

from hybrid_ops.engines.layer_bench.cases import DIRECTIONS
from hybrid_ops.measure.procedures.kernels import CONTENDERS, FAMILIES, PICTURE, Kernels, at_contender, value_name
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.statistics import median_interval
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.kernel_plots import write_kernel_plots
from hybrid_ops.report.numbers import show
from hybrid_ops.report.report import Block, Lines, Preformatted, Report, Section, Style, Table

WIDTH = 89
"""Of the inside of a box."""
SHADES = {"0": "  ", "1": "░░", "2": "██"}
HEADINGS = ("Operation", "FW Time (ms)", "FW FLOPS (TF/s)", "BW Time (ms)", "BW FLOPS (TF/s)")
FURTHER = (
    "Operation", "Pass", "ms, 95 % interval", "exact TF/s", "of matmul", "GB/s", "of copy", "peak memory", "error",
    "allowed",
)  # fmt: skip


@dataclass(frozen=True)
class KernelResult:
    """One kernel of a run."""

    case: str
    told: Mapping[str, Any]
    """What the procedure says of the case: heading, shape, who is absent."""
    medians: Mapping[str, float]
    """Over the launches."""
    samples: Mapping[str, Sequence[float]]
    """Of all timed rounds, by name."""
    picture: str | None
    failures: Mapping[tuple[str, str], CellResult]
    """By direction and contender: the cell of who has no time."""

    def value(self, direction: str, what: str, contender: str) -> float | None:
        return self.medians.get(value_name(direction, what, contender))

    @property
    def contenders(self) -> list[str]:
        """Everyone who takes part, the yardsticks first, our form last."""
        seen = [
            name
            for name in CONTENDERS
            if any(self.value(way, "ms", name) is not None or (way, name) in self.failures for way in DIRECTIONS)
        ]
        return sorted(seen, key=lambda name: (name == "ours", name not in self.told["yardsticks"]))

    @property
    def refused(self) -> list[str]:
        """Who failed although nothing was known of it."""
        return [
            f"{name}, {direction}: {cell.reason}"
            for (direction, name), cell in self.failures.items()
            if cell.verdict is Verdict.FAILED_TO_RUN
        ]


class KernelTables(Report):
    """The attention benchmark's tables, one kernel after the other, and a plot."""

    name: ClassVar[str] = "kernels"

    def section(self, run: RunResults) -> Section | None:
        found = kernel_results(run)
        blocks: list[Block] = [Preformatted(["Using the default sparsity block size: 128"])]
        for result in found:
            blocks += [Preformatted(table_lines(result)), *_further(result)]
        return Section("kernels", blocks) if found else None

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        found = kernel_results(run)
        plotted = {
            result.told["title"]: {
                name: {way: result.value(way, "tflops", name) for way in DIRECTIONS} for name in result.contenders
            }
            for result in found
        }
        return write_kernel_plots(plotted, run, folder / "plots") if found else []


def kernel_results(run: RunResults) -> list[KernelResult]:
    """The kernels of a run that have values, in the order of the suite."""
    found = []
    order = {case: position for position, case in enumerate(dict.fromkeys(cell.case for cell in run.cells))}
    told = run.details(Kernels.details_key or "")
    for case in sorted(told, key=lambda name: order.get(name, len(order))):
        seen = [launch.cases[case] for launch in run.records_of(case)]
        if not seen:
            continue
        samples: dict[str, list[float]] = {}
        for iteration in (one for record in seen for one in record.iterations):
            for name, value in iteration.items():
                if not isinstance(value, str):
                    samples.setdefault(name, []).append(value)
        picture = seen[0].values.get(PICTURE)
        cells = {cell.metric: cell for cell in run.cells if cell.case == case}
        failures = {}
        for direction in DIRECTIONS:
            for contender in CONTENDERS:
                cell = cells.get(at_contender(FAMILIES[direction][0], contender).name)
                if cell is not None and cell.verdict in (Verdict.FAILED_TO_RUN, Verdict.EXPECTED_FAILURE):
                    failures[direction, contender] = cell
        medians = run.medians(case)
        drawn = None if picture is None else str(picture)
        found.append(KernelResult(case, told[case], medians, samples, drawn, failures))
    return found


def table_lines(result: KernelResult) -> list[str]:
    """One kernel as the attention benchmark prints it."""
    agreed = "Correctness check passed ✅"
    if result.refused:
        agreed = "Correctness check failed ❌ " + "; ".join(result.refused)
    rows = [[name, *_figures(result, name)] for name in result.contenders]
    lines = [f"╔{'═' * WIDTH}╗", f"║{result.told['title']:^{WIDTH}}║", f"╚{'═' * WIDTH}╝", agreed]
    lines += tabulate(rows, headers=HEADINGS, tablefmt="grid", missingval="—").splitlines()
    if result.told["is_attention"]:
        lines += ["", "Block Mask:", *block_mask_lines(result)]
    return lines


def _figures(result: KernelResult, contender: str) -> list[float | None]:
    figures = []
    for direction in DIRECTIONS:
        for what, digits in (("ms", 4), ("tflops", 2)):
            value = result.value(direction, what, contender)
            figures.append(None if value is None else _rounded(value, digits))
    return figures


def _rounded(value: float, digits: int) -> float:
    """With so many decimals, or with three digits where that would leave fewer."""
    return round(value, digits) if abs(value) >= 1 else float(f"{value:.3g}")


def block_mask_lines(result: KernelResult) -> list[str]:
    """The mask as torch prints its `BlockMask`: what is seen of sections of it, wholly or in part."""
    if result.picture is None:
        return ["None"]
    tokens, sparsity = result.told["shape"]["tokens"], result.medians["block_sparsity"]
    rows = ["".join(SHADES[digit] for digit in row).rstrip() for row in result.picture.split("/")]
    return [f"BlockMask(shape=(1, 1, {tokens}, {tokens}), sparsity={sparsity:.2f}%,", "(0, 0)", *rows, ")"]


def _further(result: KernelResult) -> list[Block]:
    """What the benchmark's table leaves out."""
    rows = [
        row
        for direction in DIRECTIONS
        for name in result.contenders
        if (row := _further_row(result, direction, name)) is not None
    ]
    lines = [f"{result.case}: " + "B{batch} H{heads} S{tokens} D{head_size} {dtype}".format(**result.told["shape"])]
    if result.picture is not None:
        lines.append(
            f"block sparsity {result.medians['block_sparsity']:.2f} %, block density "
            f"{result.medians['block_density']:.2f} %, exact density {result.medians['exact_density']:.2f} %"
        )
    lines += [
        f"{direction}: matmul {result.medians[f'{direction}_matmul_tflops']:.4g} TF/s, copy "
        f"{result.medians[f'{direction}_copy_gbps']:.4g} GB/s in the same rounds"
        for direction in DIRECTIONS
    ]
    yardsticks = [name for name in result.told["yardsticks"] if name in result.contenders]
    notes = [f"{name} computes something else: a yardstick" for name in yardsticks]
    notes += [
        f"{direction} {name}: {cell.verdict.value}: {cell.reason}"
        for (direction, name), cell in result.failures.items()
    ]
    notes += [f"{name}: {reason}" for name, reason in result.told["absent"].items()]
    style = Style.BAD if result.refused else Style.PLAIN
    return [Preformatted(lines), Table(FURTHER, rows), Lines(notes, style)]


def _further_row(result: KernelResult, direction: str, contender: str) -> list[str] | None:
    samples = result.samples.get(value_name(direction, "ms", contender))
    if samples is None:
        return None
    low, high = median_interval(samples)

    def told(what: str, unit: str = "", form: str = ".4g", factor: float = 1.0) -> str:
        value = result.value(direction, what, contender)
        return "—" if value is None else f"{factor * value:{form}}{unit}"

    peak = result.value(direction, "peak_bytes", contender)
    return [
        contender,
        direction,
        f"{told('ms')} [{low:.4g}, {high:.4g}]",
        told("exact_tflops"),
        told("matmul_share", " %", ".1f", 100),
        told("gbps"),
        told("bandwidth_share", " %", ".1f", 100),
        show(peak, "B"),
        told("error", form=".1e"),
        told("bound", form=".1e"),
    ]
