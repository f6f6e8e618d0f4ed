"""The plot of kernels: what each contender reaches, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.drawing import DARK, DOTS_PER_INCH, PALETTE, STYLE, plain_axis

Rates = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""TF/s by kernel, contender and direction."""


def write_kernel_plots(rates: Rates, run: RunResults, folder: Path) -> list[Path]:
    """Bars of TF/s by kernel, a panel for each direction; returns the path."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    contenders = list(dict.fromkeys(name for by_name in rates.values() for name in by_name))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(8.0, 1.6 * len(rates)), 9.0), layout="constrained")
        for axis, direction in zip(figure.subplots(2, 1, squeeze=False).flatten(), ("forward", "backward")):
            _draw(axis, rates, contenders, direction)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        heading = figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=4,
            frameon=False,
            title="Speed of each kernel, by who computes it",
        )
        heading.get_title().set(fontsize=15, fontweight="bold")
        figure.supxlabel(f"{run.device.name}, run {run.run_id}; medians", fontsize=9, color=DARK)
        path = folder / "kernels.png"
        figure.savefig(path, dpi=DOTS_PER_INCH)
    return [path]


def _draw(axis: Any, rates: Rates, contenders: list[str], direction: str) -> None:
    width = 0.8 / len(contenders)
    for position, name in enumerate(contenders):
        places = [(place, by_name.get(name, {}).get(direction)) for place, by_name in enumerate(rates.values())]
        shown = [(place, rate) for place, rate in places if rate is not None]
        axis.bar(
            [place + (position - (len(contenders) - 1) / 2) * width for place, _ in shown],
            [rate for _, rate in shown],
            width,
            label=name,
            color=PALETTE[position % len(PALETTE)],
            hatch="//" if position >= len(PALETTE) else "",
            edgecolor="white",
        )
    axis.set_xticks(range(len(rates)), [title.replace(" ", "\n") for title in rates], fontsize=9)
    axis.set_title(direction)
    axis.set_ylabel("TF/s by block density")
    axis.set_yscale("log")
    plain_axis(axis)
