"""What a run shows of its models as plots: speed by model, the roofline, and the bytes that a cache takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.drawing import (
    DARK,
    GREY,
    drawn,
    legend_beside,
    looks,
    plain_axis,
    plain_numbers,
    rounded,
)
from hybrid_ops.report.numbers import show
from hybrid_ops.report.page.models import PHASES, length_data, roofline_data
from hybrid_ops.report.serving import measured_loads

PANELS = {
    "output_throughput": ("Output throughput", "tokens/s, more is better"),
    "tokens_per_second": ("llama-bench's throughput", "tokens/s, more is better"),
    "total_token_throughput": ("Throughput of prompt and output", "tokens/s, more is better"),
    "median_ttft_ms": ("Median time to first token", "ms, less is better"),
    "median_itl_ms": ("Median inter-token latency", "ms, less is better"),
    "mean_e2el_ms": ("Mean request latency", "ms, less is better"),
    "time_ms": ("One pass of the layer", "ms, less is better"),
}
"""The metrics of the plot by model: a title and what the axis is."""
INSTEAD = {"total_token_throughput": "output_throughput", "mean_e2el_ms": "median_itl_ms"}
"""Metrics that are shown only in a run without the other."""
MOST_GROUPS = 8
"""How many workloads one plot shows."""
Values = Mapping[str, Mapping[tuple[str, str], CellResult]]
"""Cells by metric, and by row and group of the plot."""


def plot_by_model(run: RunResults, folder: Path, file_format: str) -> list[Path]:
    """Throughput and latency by model, a panel for each metric, a marker for each workload.

    In a run of one model the workloads are the rows. Nothing for fewer than two rows.
    """
    values = by_model(run)
    rows = _names(values, 0)
    groups = _names(values, 1)
    if len(rows) < 2:
        return []
    what = "model" if any(group for group in groups) else "workload"
    paths = []
    for number, start in enumerate(range(0, len(groups), MOST_GROUPS), start=1):
        own = groups[start : start + MOST_GROUPS]
        path = folder / f"by_{what}{'' if number == 1 else f'_{number}'}.{file_format}"
        size = (3.6 + 4.2 * len(values), max(4.4, 2.2 + 0.42 * max(len(rows), len(own) / 1.6)))
        note = "Lines: from the least to the greatest launch. Grey: the baseline"
        with drawn(path, size, f"Throughput and latency by {what}", run, note) as figure:
            _draw_rows(figure, values, rows, own)
        paths.append(path)
    return paths


def by_model(run: RunResults) -> Values:
    """The cells of `PANELS` by metric, and by model and workload; of one model by workload alone."""
    swept = {load.case for load in measured_loads(run) if load.sweep is not None}
    cells = [cell for cell in run.cells if cell.metric in PANELS and cell.case not in swept]
    known = [cell for cell in cells if isinstance(cell.value, int | float) and cell.value > 0]
    metrics = {cell.metric for cell in known}
    models = {cell.case.partition("/")[0] for cell in known}
    found: dict[str, dict[tuple[str, str], CellResult]] = {}
    for metric in PANELS:
        if metric in metrics and INSTEAD.get(metric) not in metrics:
            own = {_place(cell, len(models) > 1): cell for cell in known if cell.metric == metric}
            found[metric] = own
    return found


def _place(cell: CellResult, by_models: bool) -> tuple[str, str]:
    model, _, workload = cell.case.partition("/")
    return (model, workload) if by_models else (workload, "")


def _names(values: Values, which: int) -> list[str]:
    return list(dict.fromkeys(place[which] for cells in values.values() for place in cells))


def _draw_rows(figure: Any, values: Values, rows: Sequence[str], groups: Sequence[str]) -> None:
    look = looks(groups)
    axes = figure.subplots(1, len(values), squeeze=False, sharey=True).flatten()
    for axis, (metric, cells) in zip(axes, values.items()):
        for position, group in enumerate(groups):
            offset = (position - (len(groups) - 1) / 2) * 0.7 / len(groups)
            for row, name in enumerate(rows):
                if (cell := cells.get((name, group))) is not None:
                    _draw_cell(axis, cell, row + offset, look[group])
            axis.plot([], [], look[group].marker, color=look[group].color, label=group)
        for between in range(1, len(rows)):
            axis.axhline(between - 0.5, color="#eeeeee", linewidth=1)
        axis.set_xscale("log")
        title, label = PANELS[metric]
        axis.set_title(title)
        axis.set_xlabel(label)
        plain_axis(axis, "x")
        plain_numbers(axis.xaxis)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    if any(groups):
        legend_beside(figure, *axes[0].get_legend_handles_labels())


def _draw_cell(axis: Any, cell: CellResult, place: float, look: Any) -> None:
    launches = [float(value) for value in cell.launches if isinstance(value, int | float)]
    if isinstance(cell.baseline, int | float):
        axis.plot([cell.baseline], [place], "|", color=GREY, markersize=11, markeredgewidth=2.5, zorder=2)
    if len(launches) > 1:
        axis.plot([min(launches), max(launches)], [place, place], "-", color=look.color, linewidth=1.2)
    axis.plot([cell.value], [place], look.marker, color=look.color, markersize=6, zorder=3)


def plot_cache_lengths(run: RunResults, folder: Path, file_format: str) -> list[Path]:
    """Bytes that the cache takes for a sequence, over its length, a line for each case; nothing without two lengths."""
    lines = {case: points for case, points in length_data(run)["bytes"].items() if len(points) > 1}
    if not lines:
        return []
    path = folder / f"cache_over_length.{file_format}"
    with drawn(path, (9.6, max(5.4, 1.6 + 0.27 * len(lines))), "Cache of one sequence over its length", run) as figure:
        axis = figure.subplots()
        for case, look in looks(list(lines)).items():
            axis.plot(*zip(*lines[case]), look.marker, linestyle="-", color=look.color, label=case, alpha=0.85)
        lengths = sorted({length for points in lines.values() for length, _ in points})
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xticks(lengths, [f"{length:,.0f}" for length in lengths], rotation=30 if len(lengths) > 4 else 0)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(lambda value, _: show(value, "B"))
        axis.set_xlabel("length of the sequence (tokens)")
        axis.set_ylabel("bytes of cache blocks")
        plain_axis(axis, "both")
        legend_beside(figure, *axis.get_legend_handles_labels())
    return [path]


def plot_roofline(run: RunResults, folder: Path, file_format: str) -> list[Path]:
    """Where prefill and decode of each case stand below the device's roofs; nothing without a case that has FLOPs."""
    data = roofline_data(run)
    points = data["points"]
    if not points:
        return []
    path = folder / f"roofline.{file_format}"
    models = list(dict.fromkeys(point["case"].partition("/")[0] for point in points))
    note = f"Peaks: {data['source']}" if "source" in data else "The device's peaks are not known"
    size = (10.2, max(6.0, 1.8 + 0.27 * len(models)))
    with drawn(path, size, "Prefill and decode in the roofline", run, note) as figure:
        axis = figure.subplots()
        look = looks(models)
        for point in points:
            color, marker = look[point["case"].partition("/")[0]]
            face = color if point["phase"] == PHASES[0] else "white"
            axis.plot(point["intensity"], point["speed"], marker, color=color, markerfacecolor=face, markersize=7)
        axis.set_xscale("log")
        axis.set_yscale("log")
        if "flops" in data:
            _draw_roofs(axis, data["flops"], data["bandwidth"], [point["intensity"] for point in points])
        axis.set_xlabel("arithmetic intensity (FLOPs a byte moved)")
        axis.set_ylabel("FLOP/s of one device")
        plain_axis(axis, "both")
        for model in models:
            axis.plot([], [], look[model].marker, color=look[model].color, label=model)
        for phase, face in zip(PHASES, (DARK, "white")):
            axis.plot([], [], "o", color=DARK, markerfacecolor=face, label=phase)
        legend_beside(figure, *axis.get_legend_handles_labels())
    return [path]


def _draw_roofs(axis: Any, flops: Mapping[str, float], bandwidth: float, intensities: Sequence[float]) -> None:
    """A roof for each data type: memory up to the ridge, arithmetic beyond it."""
    low = min(intensities) / 3
    high = max(*intensities, *(peak / bandwidth for peak in flops.values())) * 10
    for dtype, peak in flops.items():
        ridge = peak / bandwidth
        axis.plot([low, ridge, high], [low * bandwidth, peak, peak], "-", color=GREY, linewidth=1.5, zorder=1)
        axis.annotate(f"{dtype}: {rounded(peak / 1e12)} TFLOP/s", (high, peak), (-4, 4), textcoords="offset points",
                      ha="right", color=DARK, fontsize=10)  # fmt: skip
    middle = math.sqrt(low * min(peak / bandwidth for peak in flops.values()))
    axis.annotate(f"memory: {rounded(bandwidth / 1e9)} GB/s", (middle, middle * bandwidth), (-6, 8), ha="right",
                  textcoords="offset points", color=DARK, fontsize=10)  # fmt: skip
