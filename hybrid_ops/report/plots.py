"""The plots of a comparison: memory, throughput, latency and memory efficiency over input lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hybrid_ops.report.comparison import LABELS, ComparisonResults, Measured
from hybrid_ops.report.drawing import BLUE, DARK, DOTS_PER_INCH, GREEN, ORANGE, STYLE, plain_axis, plain_numbers
from hybrid_ops.report.numbers import binary_unit
from hybrid_ops.workloads.comparison import Attention

COLOURS: dict[Attention, str] = {"full": BLUE, "sliding": ORANGE, "hybrid": GREEN}
MARKERS: dict[Attention, str] = {"full": "o", "sliding": "s", "hybrid": "^"}
HATCHES: dict[Attention, str] = {"full": "", "sliding": "//", "hybrid": ".."}
PANEL_INCHES = (6.4, 4.8)
Draw = Callable[[Any, ComparisonResults], None]


def write_plots(results: ComparisonResults, folder: Path, file_format: str = "png") -> list[Path]:
    """Write every plot into `folder` in a format of `drawing.FORMATS`; return the paths."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (title, draw, panels) in PLOTS.items():
        with mpl.rc_context(STYLE):
            count = len(results.lengths) if panels is None else panels
            columns = min(count, 4)
            rows = -(-count // columns)
            width = PANEL_INCHES[0] * min(columns, 2) + 2.6 * max(0, columns - 2)
            figure = Figure(figsize=(width, PANEL_INCHES[1] * rows + 0.9), layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False, sharey=panels is None).flatten()
            for spare in axes[count:]:
                spare.remove()
            draw(axes[:count], results)
            handles, labels = axes[0].get_legend_handles_labels()
            heading = figure.legend(
                handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, title=title
            )
            heading.get_title().set(fontsize=15, fontweight="bold")
            figure.supxlabel(_caption(results), fontsize=9, color=DARK)
            path = folder / f"{name}.{file_format}"
            figure.savefig(path, dpi=DOTS_PER_INCH)
            paths.append(path)
    return paths


def _caption(results: ComparisonResults) -> str:
    models = ", ".join(group[0].parameters["model"] for group in results.by_attention.values())
    return (
        f"{models} on {results.run.device.name}, run {results.run.run_id}\n{results.input_note}. "
        "Medians of launches; bars: the range of timed iterations"
    )


def _memory(axes: Sequence[Any], results: ComparisonResults) -> None:
    _bars(axes[0], results, "kv_cache_bytes", "Cache blocks held by the batch", is_bytes=True)
    _bars(axes[1], results, "model_bytes", "Model weights", is_bytes=True, at_every_length=False)
    _bars(axes[2], results, "peak_memory_bytes", "Peak memory of the engine so far", is_bytes=True)


def _throughput(axes: Sequence[Any], results: ComparisonResults) -> None:
    _bars(axes[0], results, "total_token_throughput", "Prompt and generated tokens", "tokens/s")
    _bars(axes[1], results, "request_throughput", "Requests", "requests/s")


def _latency_over_length(axes: Sequence[Any], results: ComparisonResults) -> None:
    _lines(axes[0], results, "mean_e2el_ms", "Average request latency", "ms")
    _lines(axes[1], results, "median_ttft_ms", "Median time to first token", "ms")


def _efficiency(axes: Sequence[Any], results: ComparisonResults) -> None:
    _lines(axes[0], results, "throughput_per_gib", "Throughput over weights and cache held", "tokens/s per GiB")
    _lines(axes[1], results, "kv_cache_bytes_per_request", "Cache held by one request", is_bytes=True)


def _percentiles(axes: Sequence[Any], results: ComparisonResults) -> None:
    """One panel an input length: p50, p90 and p99 of request latency, side by side."""
    statistics = {"median": "p50", "p90": "p90", "p99": "p99"}
    for length, axis in zip(results.lengths, axes):
        for position, (attention, group) in enumerate(results.by_attention.items()):
            figures = [
                (measured, f"{statistic}_e2el_ms")
                for measured in group
                if measured.prompt_tokens == length
                for statistic in statistics
            ]
            places = [place + _offset(position, results) for place in range(len(figures))]
            _bar(axis, attention, places, figures, results, 1.0)
        axis.set_title(f"{length} input tokens")
        axis.set_xticks(range(len(statistics)), statistics.values())
        axis.set_xlabel("percentile of requests")
        _grid(axis)
    axes[0].set_ylim(bottom=0)  # of all panels; before the last one is drawn it would fix their top as well
    axes[0].set_ylabel("request latency (ms)")


def _bars(
    axis: Any,
    results: ComparisonResults,
    metric: str,
    title: str,
    unit: str = "",
    is_bytes: bool = False,
    at_every_length: bool = True,
) -> None:
    """Bars by input length, one a configuration, with the range of the iterations."""
    divisor, unit = _scale(results, metric) if is_bytes else (1.0, unit)
    lengths = results.lengths if at_every_length else results.lengths[:1]
    for position, (attention, group) in enumerate(results.by_attention.items()):
        shown = [measured for measured in group if measured.prompt_tokens in lengths]
        places = [lengths.index(measured.prompt_tokens) + _offset(position, results) for measured in shown]
        _bar(axis, attention, places, [(measured, metric) for measured in shown], results, divisor)
    axis.set_xticks(range(len(lengths)), [str(length) for length in lengths] if at_every_length else ["any"])
    axis.set_ylim(bottom=0)
    _label(axis, title, unit)


def _bar(
    axis: Any,
    attention: Attention,
    places: Sequence[float],
    figures: Sequence[tuple[Measured, str]],
    results: ComparisonResults,
    divisor: float,
) -> None:
    axis.bar(
        places,
        [measured.value(metric) / divisor for measured, metric in figures],
        0.8 / len(results.by_attention),
        yerr=_errors(figures, divisor),
        label=LABELS[attention],
        color=COLOURS[attention],
        hatch=HATCHES[attention],
        edgecolor="white",
        error_kw={"ecolor": "#222222", "capsize": 3, "elinewidth": 1},
    )


def _lines(
    axis: Any, results: ComparisonResults, metric: str, title: str, unit: str = "", is_bytes: bool = False
) -> None:
    """Lines over the input length, one a configuration, with the range of the iterations."""
    divisor, unit = _scale(results, metric) if is_bytes else (1.0, unit)
    for attention, group in results.by_attention.items():
        axis.errorbar(
            [measured.prompt_tokens for measured in group],
            [measured.value(metric) / divisor for measured in group],
            yerr=_errors([(measured, metric) for measured in group], divisor),
            label=LABELS[attention],
            color=COLOURS[attention],
            marker=MARKERS[attention],
            markersize=8,
            linewidth=2,
            capsize=4,
        )
    lengths = results.lengths
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, [str(length) for length in lengths])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    _label(axis, title, unit)


def _label(axis: Any, title: str, unit: str) -> None:
    axis.set_title(title)
    axis.set_xlabel("input length (tokens)")
    axis.set_ylabel(unit)
    _grid(axis)


def _grid(axis: Any) -> None:
    plain_numbers(axis.yaxis)
    plain_axis(axis)


def _offset(position: int, results: ComparisonResults) -> float:
    """Where the bar of a configuration stands beside the middle of its group."""
    count = len(results.by_attention)
    return (position - (count - 1) / 2) * 0.8 / count


def _errors(figures: Sequence[tuple[Measured, str]], divisor: float) -> list[list[float]] | None:
    """How far the iterations reach below and above the shown values; None where they never differ."""
    below, above = [], []
    for measured, metric in figures:
        value = measured.value(metric)
        low, high = measured.range(metric) or (value, value)
        below.append(max(0.0, value - low) / divisor)
        above.append(max(0.0, high - value) / divisor)
    return [below, above] if any(below) or any(above) else None


def _scale(results: ComparisonResults, metric: str) -> tuple[float, str]:
    """(bytes of the unit, its name) in which the largest value of a metric reads well."""
    return binary_unit(max(measured.value(metric) for group in results.by_attention.values() for measured in group))


PLOTS: dict[str, tuple[str, Draw, int | None]] = {
    "memory_comparison": ("Memory of full, sliding-window and hybrid attention", _memory, 3),
    "throughput_comparison": ("Throughput over input lengths", _throughput, 2),
    "latency_percentiles": ("Percentiles of request latency", _percentiles, None),
    "latency_vs_input_length": ("Latency over input lengths", _latency_over_length, 2),
    "memory_efficiency": ("Memory efficiency over input lengths", _efficiency, 2),
}
"""Title, drawing and number of panels of each plot; None: one panel an input length."""
