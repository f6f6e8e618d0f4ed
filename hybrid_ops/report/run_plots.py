"""The plots that every suite leaves, of whatever its run has data for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.load_plots import plot_efficiency, plot_loads, plot_power_limits
from hybrid_ops.report.model_plots import plot_by_model, plot_cache_lengths, plot_roofline
from hybrid_ops.report.report import Report

PLOTS_FOLDER = "plots"
PLOTS: tuple[Callable[[RunResults, Path, str], list[Path]], ...] = (
    plot_by_model,
    plot_loads,
    plot_power_limits,
    plot_efficiency,
    plot_cache_lengths,
    plot_roofline,
)
"""Each takes a run, a folder and a format, and returns the paths of what it has drawn: none without data."""


class Plots(Report):
    """Every plot that the run has data for, as PNG."""

    name: ClassVar[str] = "plots"

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        return write_run_plots(run, folder / PLOTS_FOLDER, "png")


def write_run_plots(run: RunResults, folder: Path, file_format: str) -> list[Path]:
    """Draw every plot that the run has data for, in a format of `drawing.FORMATS`; return their paths."""
    return [path for plot in PLOTS for path in plot(run, folder, file_format)]
