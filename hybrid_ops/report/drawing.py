"""The one style of all plots: a palette that the colour-blind can tell apart, titles, captions, files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_ops.regression.results import RunResults

FORMATS = ("png", "svg", "pdf")
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9", "#000000")
"""Okabe and Ito's palette, less the yellow, which is hard to see on white."""
MARKERS = "os^DvPX*"
GREY, DARK, PALE = "#888888", "#444444", "#dddddd"
STYLE = {"font.size": 12, "axes.titlesize": 13, "axes.labelsize": 12, "legend.fontsize": 11, "hatch.linewidth": 0.6}
DOTS_PER_INCH = 120
MOST_IN_A_COLUMN = 22
"""Entries of a legend."""


class Look(NamedTuple):
    """How one line, or group of points, is told from the others."""

    color: str
    marker: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each name; of 56 names no two are alike, and neighbours differ in colour and marker."""
    return {
        name: Look(PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]) for place, name in enumerate(names)
    }


@contextmanager
def drawn(path: Path, size: tuple[float, float], title: str, run: RunResults, note: str = "") -> Iterator[Any]:
    """A figure of `size` in inches, which is written to `path` at the end, with a title and what was measured where."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
        yield figure
        figure.suptitle(title, fontsize=15, fontweight="bold")
        made = f"{run.device.name}, run {run.run_id}"
        figure.supxlabel(f"{made}\n{note}" if note else made, fontsize=9, color=DARK)
        figure.savefig(path)


def plain_axis(axis: Any, grid: str = "y") -> None:
    """A pale grid below the data, and no frame at the top and the right."""
    axis.grid(axis=grid, color=PALE)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def legend_beside(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend on the right, outside of everything drawn, in columns where it is long."""
    columns = -(-len(labels) // MOST_IN_A_COLUMN)
    figure.legend(handles, labels, loc="outside right center", frameon=False, ncols=columns, fontsize=10)


def plain_numbers(axis: Any) -> None:
    """Numbers as people write them, also where the axis is logarithmic: 500 rather than 5 × 10²."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.get_scale() == "log":
        low, high = axis.get_view_interval()
        is_short = high / max(low, 1e-300) < 300
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if is_short else (1.0,), numticks=8))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: rounded(value)))


def rounded(value: float) -> str:
    """Three digits, and whole numbers with commas from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def file_name(name: str) -> str:
    """A name that a file may have, of a case or a sweep."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
