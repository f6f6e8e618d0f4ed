"""`report.html`: the page of a run, and the page of a history without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.measure.store import write_text
from hybrid_ops.regression.history.store import History, Series
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.causes import worst_first
from hybrid_ops.report.numbers import show_change, show_short
from hybrid_ops.report.page import machine, models
from hybrid_ops.report.page.cells import cell_data, series_data
from hybrid_ops.report.page.document import render
from hybrid_ops.report.page.launches import condition_data, launch_rows, log_links
from hybrid_ops.report.page.rows import MOST_CONCERNS, Row, choices, concerns, counts, rank, row_of
from hybrid_ops.report.page.trends import CellTrend, Trends, all_trends, trends_of
from hybrid_ops.report.report import Report

PAGE_FILE = "report.html"
HISTORY_FILE = "history.sqlite"
"""Where a night keeps the history, beside the folders of the runs."""


class Page(Report):
    """The page of a run."""

    name: ClassVar[str] = "page"

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        return [write_page(run, folder, folder / PAGE_FILE, store_beside(folder))]


def store_beside(folder: Path) -> Path | None:
    """The history beside the folder of a run; None where there is none."""
    store = folder.absolute().parent / HISTORY_FILE
    return store if store.is_file() else None


def write_page(run: RunResults, folder: Path, page: Path, store: Path | None) -> Path:
    """Write the page of a run whose files lie in `folder`, whole or not at all, and return its path.

    A history that cannot be read is said on the page. Raises OSError.
    """
    trends = Trends() if store is None else trends_of(store, run)
    logs = log_links(run, folder, page)
    cells = worst_first(run.cells)
    found = [trends.cells.get((run.device.device_class, cell.case, cell.metric)) for cell in cells]
    rows = [row_of(cell, trend) for cell, trend in zip(cells, found)]
    roofline, lengths = models.roofline_data(run), models.length_data(run)
    bad = concerns(run, logs)
    launches = launch_rows(run, logs)
    text = _render(
        rows,
        trends,
        [cell_data(run, cell, trend, logs) for cell, trend in zip(cells, found)],
        run_data={
            "roofline": roofline,
            "lengths": lengths,
            "layers": models.layer_data(run),
            "conditions": condition_data(run),
        },
        is_run=True,
        title=f"{run.run_id}: performance",
        heading=f"Performance run {run.run_id}",
        subtitle=_subtitle(run),
        before="Arm a" if run.arms is not None else "Baseline",
        now="Arm b" if run.arms is not None else "Now",
        concerns=bad[:MOST_CONCERNS],
        more_concerns=len(bad[MOST_CONCERNS:]),
        findings=run.findings,
        has_roofline=bool(roofline["points"]),
        has_caches=any(lengths.values()) or bool(models.caches(run)),
        caches=models.cache_rows(run),
        launches=launches,
        run_facts=machine.run_facts(run),
        device_facts=machine.device_facts(run),
        versions=machine.versions(run),
        files=machine.files(folder, page),
    )
    write_text(page, text)
    return page


def page_line(run: RunResults, folder: Path, store: Path) -> str:
    """Write the page of a run that the history has by now, and say where it is or why it is not."""
    try:
        return f"page: {write_page(run, folder, folder / PAGE_FILE, store)}"
    except OSError as error:
        return f"page: not written: {error}"


def write_trends(store: Path, page: Path, chosen: Callable[[History], Sequence[Series]], last: int) -> Path:
    """Write the page of a history's chosen cells, and return its path. Raises InputError and OSError."""
    trends = all_trends(store, chosen, last)
    found = sorted(trends.cells.values(), key=lambda one: (not one.is_open_regression, rank(one.newest.verdict)))
    rows = [_row_of_trend(trend) for trend in found]
    runs = trends.shared["runs"]
    first, newest = (min(run[1] for run in runs)[:10], max(run[1] for run in runs)[:10]) if runs else ("", "")
    text = _render(
        rows,
        trends,
        [
            series_data(one.series.case, one.series.metric, one.series.unit, one.series.kind, one.series.direction, one)
            for one in found
        ],
        run_data={},
        is_run=False,
        title=f"{store.name}: performance over time",
        heading="Performance over time",
        subtitle=f"{len(rows)} cells in {len(runs)} runs from {first} to {newest}, out of {store.name}. "
        "The verdicts are those of the newest run of each cell; open changes for the worse come first.",
        before="Baseline",
        now="Newest",
        concerns=[],
        more_concerns=0,
    )
    write_text(page, text)
    return page


def _render(rows: list[Row], trends: Trends, cells: list[dict[str, Any]], run_data: Any, **shown: Any) -> str:
    sections = [
        ("attention", "What needs a look", shown["concerns"]),
        ("cells", "Cells", True),
        ("findings", "What cells show together", shown.get("findings")),
        ("roofline", "Roofline", shown.get("has_roofline")),
        ("caches", "Cache and concurrency", shown.get("has_caches")),
        ("launches", "Launches and conditions", shown.get("launches")),
        ("machine", "Environment and versions", shown["is_run"]),
    ]
    return render(
        {"cell_data": cells, "history_data": trends.shared, "run_data": run_data},
        rows=rows,
        counts=counts([row.verdict for row in rows]),
        choices=choices(rows),
        has_trends=bool(trends.cells),
        notices=[] if trends.problem is None else [f"Without the whole history: {trends.problem}"],
        sections=[(anchor, name) for anchor, name, is_there in sections if is_there],
        **shown,
    )


def _subtitle(run: RunResults) -> str:
    engines = [f"{name} {version}" for name, version in run.versions.items() if name not in ("python", "hybrid-ops")]
    started = f", {run.started[:16].replace('T', ' ')}" if run.started else ""
    return f"{len(run.cells)} cells on {run.device.name} ({run.device.device_class}){started}. {', '.join(engines)}"


def _row_of_trend(trend: CellTrend) -> Row:
    point, series = trend.newest, trend.series
    change = None
    if point.value is not None and isinstance(point.baseline, int | float) and point.baseline:
        change = point.value / point.baseline - 1
    return Row(
        case=series.case,
        metric=series.metric,
        verdict=point.verdict,
        baseline=show_short(point.baseline, series.unit),
        now=show_short(point.text if point.value is None else point.value, series.unit),
        change=show_change(change),
        trend=trend.text,
        device=series.device,
    )
