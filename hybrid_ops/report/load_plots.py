"""What a run shows over load and over power as plots: latency with the knee of a sweep, and efficiency."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid_ops.measure.energy import MEAN_POWER, TOKENS_PER_JOULE
from hybrid_ops.measure.knee import knee
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.drawing import (
    BLUE,
    DARK,
    GREY,
    VERMILION,
    drawn,
    file_name,
    legend_beside,
    looks,
    plain_axis,
    plain_numbers,
)
from hybrid_ops.report.power_limits import LimitPoint, knee_of, sweeps
from hybrid_ops.report.serving import MeasuredLoad, measured_loads, sweep_point

PANELS = {
    "request_throughput": ("Request throughput", "requests/s"),
    "mean_e2el_ms": ("Mean request latency", "ms"),
    "mean_ttft_ms": ("Mean time to first token", "ms"),
}
"""The metrics of a plot over load: a title and a unit."""


def plot_loads(run: RunResults, folder: Path, file_format: str) -> list[Path]:
    """Throughput and latency over the load, a plot for each sweep, a line for each model, its knee marked."""
    by_sweep: dict[str, dict[str, list[MeasuredLoad]]] = {}
    for load in measured_loads(run):
        if load.sweep is not None:
            model, _, name = load.sweep.partition("/")
            by_sweep.setdefault(name, {}).setdefault(model, []).append(load)
    paths = []
    for name, by_model in by_sweep.items():
        lines = {model: loads for model, loads in by_model.items() if len(loads) > 1}
        if lines:
            path = folder / f"load_{file_name(name)}.{file_format}"
            note = "Ring: the knee, the most throughput for its latency" if any(map(_knee, lines.values())) else ""
            with drawn(path, (17.0, max(5.2, 1.8 + 0.3 * len(lines))), f"Latency over load: {name}", run, note) as one:
                _draw_loads(one, lines)
            paths.append(path)
    return paths


def _knee(loads: Sequence[MeasuredLoad]) -> MeasuredLoad | None:
    """The load at the knee of a sweep."""
    points = list(map(sweep_point, loads))
    best = knee(points)
    return None if best is None else loads[points.index(best)]


def _at_once(load: MeasuredLoad) -> float:
    """The most requests at once of a load; infinite where they are not limited."""
    limit = load.load["max_concurrency"]
    return math.inf if isinstance(limit, str) else float(limit)


def _draw_loads(figure: Any, lines: Mapping[str, Sequence[MeasuredLoad]]) -> None:
    # Evenly spaced, as the doubling loads of a sweep are on a logarithm; "unlimited" is the last.
    sizes = sorted({_at_once(load) for loads in lines.values() for load in loads})
    for axis, (metric, (title, unit)) in zip(figure.subplots(1, len(PANELS)), PANELS.items()):
        for model, look in looks(list(lines)).items():
            loads = sorted(lines[model], key=_at_once)
            known = [load for load in loads if metric in load.values]
            places = [sizes.index(_at_once(load)) for load in known]
            values = [load.values[metric] for load in known]
            axis.plot(places, values, look.marker, linestyle="-", color=look.color, label=model)
            if (best := _knee(loads)) in known:
                at = known.index(best)
                axis.plot(places[at], values[at], "o", markersize=16, markerfacecolor="none", color=look.color)
        axis.set_xticks(range(len(sizes)), ["unlimited" if math.isinf(size) else f"{size:.0f}" for size in sizes])
        axis.set_ylim(bottom=0)
        axis.set_title(title)
        axis.set_xlabel("requests at once")
        axis.set_ylabel(unit)
        plain_numbers(axis.yaxis)
        plain_axis(axis)
    legend_beside(figure, *figure.axes[0].get_legend_handles_labels())


def plot_power_limits(run: RunResults, folder: Path, file_format: str) -> list[Path]:
    """Throughput and tokens a joule over the power limit, a plot for each sweep, its knee marked."""
    paths = []
    for name, points in sweeps(run).items():
        if len(points) > 1:
            path = folder / f"power_{file_name(name)}.{file_format}"
            with drawn(path, (12.0, 5.2), f"Efficiency over the power limit: {name}", run) as figure:
                left, right = figure.subplots(1, 2)
                _draw_limits(left, points, lambda point: point.throughput, BLUE, "Throughput", "tokens/s")
                _draw_limits(right, points, _tokens_per_joule, VERMILION, "Efficiency", "tokens a joule")
            paths.append(path)
    return paths


def _tokens_per_joule(point: LimitPoint) -> float | None:
    return None if point.joules_per_token is None else 1 / point.joules_per_token


def _draw_limits(
    axis: Any, points: Sequence[LimitPoint], value: Callable[[LimitPoint], float | None], color: str, title: str,
    unit: str,
) -> None:  # fmt: skip
    known = [(point.watts, seen) for point in points if (seen := value(point)) is not None]
    if known:
        axis.plot(*zip(*known), "o-", color=color)
    else:
        axis.text(0.5, 0.5, "no energy was read", transform=axis.transAxes, ha="center", color=DARK)
    if (best := knee_of(points)) is not None:
        watts = float(best.label)
        axis.axvline(watts, color=GREY, linestyle=":")
        axis.annotate(f"knee: {best.label} W", (watts, 0), (4, 8), textcoords="offset points", rotation=90, color=DARK)
    axis.set_ylim(bottom=0)
    axis.set_title(title)
    axis.set_xlabel("power limit (W)")
    axis.set_ylabel(unit)
    plain_numbers(axis.yaxis)
    plain_axis(axis)


def plot_efficiency(run: RunResults, folder: Path, file_format: str) -> list[Path]:
    """Tokens a joule over the mean power of each case, by model; nothing for fewer than two cases with an energy."""
    cases = list(dict.fromkeys(cell.case for cell in run.cells))
    seen = {case: run.medians(case) for case in cases}
    known = [case for case in cases if {MEAN_POWER.name, TOKENS_PER_JOULE.name} <= seen[case].keys()]
    if len(known) < 2:
        return []
    path = folder / f"efficiency_over_power.{file_format}"
    models = list(dict.fromkeys(case.partition("/")[0] for case in known))
    with drawn(path, (9.6, max(5.4, 1.8 + 0.27 * len(models))), "Efficiency over power, by case", run) as figure:
        axis = figure.subplots()
        for model, look in looks(models).items():
            own = [seen[case] for case in known if case.partition("/")[0] == model]
            watts = [values[MEAN_POWER.name] for values in own]
            tokens = [values[TOKENS_PER_JOULE.name] for values in own]
            axis.plot(watts, tokens, look.marker, color=look.color, linestyle="none", markersize=8, label=model)
        axis.set_yscale("log")
        axis.set_xlabel("mean power while measured (W)")
        axis.set_ylabel("tokens a joule")
        plain_numbers(axis.yaxis)
        plain_axis(axis, "both")
        legend_beside(figure, *axis.get_legend_handles_labels())
    return [path]
