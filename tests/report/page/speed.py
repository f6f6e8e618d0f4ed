"""Builds a run of many cells with many nights, and prints how long its page takes in Chromium (`ci/page-speed`)."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from selenium.webdriver import Chrome

from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.page.report import PAGE_FILE, write_page
from tests.regression.history.nights import cell, launch, results
from tests.report.page.chromium import chromium, missing

WORKLOADS, METRICS = 8, 5
REPEATS = 5
OPENED = """
const done = arguments[0];
const told = () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() / 1000)));
document.readyState === "complete" ? told() : addEventListener("load", told);
"""
"""Seconds from the start of the navigation until the whole page was painted and can be used."""
FILTERED = """
const [name, value, done] = arguments;
const start = performance.now();
const select = document.getElementById(`filter-${name}`);
select.value = value;
select.dispatchEvent(new Event("input", { bubbles: true }));
requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - start) / 1000)));
"""
"""Seconds from a choice until the shorter table was painted."""
DRAWN = """
const done = arguments[0];
const start = performance.now();
const row = document.querySelector("#table tr.cell");
row.querySelector(".open").click();
row.nextElementSibling.scrollIntoView();
const charts = [...row.nextElementSibling.querySelectorAll(".chart")];
const look = () => {
  if (charts.every((chart) => chart.dataset.drawn)) done((performance.now() - start) / 1000);
  else requestAnimationFrame(look);
};
look();
"""
"""Seconds from a press on a row until its charts are drawn; the first time plotly.js is read, too."""


def main() -> int:
    """Print the seconds; 2 where Chromium is not installed."""
    parser = argparse.ArgumentParser(prog="ci/page-speed", description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--nights", type=int, default=200)
    args = parser.parse_args()
    if (problem := missing()) is not None:
        print(f"ci/page-speed: {problem}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        page, wrote = made(Path(name), args.cells, args.nights)
        print(f"{args.cells} cells, {args.nights} nights: {page.stat().st_size / 1e6:.1f} MB, written in {wrote:.1f} s")
        with chromium() as window:
            version = window.capabilities["browserVersion"]
            opened = [_opened(window, page) for _ in range(REPEATS)]
            drawn = float(window.execute_async_script(DRAWN))
            model = window.execute_script("return document.getElementById('filter-model').options[1].value")
            chosen = [("model", model), ("metric", "metric_1_ms"), ("verdict", "pass")]
            chosen = [step for name, value in chosen for step in ((name, value), (name, ""))]
            filtered = [float(window.execute_async_script(FILTERED, *one)) for _ in range(REPEATS) for one in chosen]
        print(f"Chromium {version}, median and worst of {len(opened)} and {len(filtered)}:")
        print(f"  open    {median(opened):6.3f} s  {max(opened):6.3f} s")
        print(f"  filter  {median(filtered):6.3f} s  {max(filtered):6.3f} s")
        print(f"  draw    {drawn:6.3f} s  the first cell that is opened")
    return 0


def _opened(window: Chrome, page: Path) -> float:
    window.get("about:blank")
    window.execute_cdp_cmd("Network.clearBrowserCache", {})
    window.get(page.as_uri())
    return float(window.execute_async_script(OPENED))


def made(folder: Path, cells: int, nights: int) -> tuple[Path, float]:
    """The page of the newest of so many nights, and the seconds that it took to write."""
    chance = random.Random(1)
    store = folder / "history.sqlite"
    with History(store, create=True) as history:
        for night in range(nights - 1):
            history.add(_night(night, cells, chance.gauss))
    run = _night(nights - 1, cells, chance.gauss)
    own = folder / run.run_id
    own.mkdir()
    started = time.perf_counter()
    return write_page(run, own, own / PAGE_FILE, store), time.perf_counter() - started


def _night(night: int, cells: int, gauss: Callable[[float, float], float]) -> RunResults:
    """A night in which each cell varies by 1 %, and one of ten has been slower since the middle of the history."""
    made: list[dict[str, Any]] = []
    for number in range(cells):
        model, rest = divmod(number, WORKLOADS * METRICS)
        workload, metric = divmod(rest, METRICS)
        is_slow = number % 10 == 0 and night >= 100
        launches = [(5 + number % 7) * (1.2 if is_slow else 1.0) * (1 + gauss(0, 0.01)) for _ in range(3)]
        baseline = 5.0 + number % 7
        value = sum(launches) / 3
        verdict = {"verdict": "slower", "reason": f"{value / baseline - 1:+.1%} (worse)"} if is_slow else {}
        made.append(
            cell(value, f"model-{model:02}/workload-{workload}", metric=f"metric_{metric}_ms", launches=launches,
                 baseline=baseline, baseline_launches=[baseline] * 5, tolerance=0.1, change=value / baseline - 1,
                 interval=[value / baseline - 1.02, value / baseline - 0.98], **verdict)
        )  # fmt: skip
    launches = [launch(f"model-{model:02}", {"seed": 42}) for model in range(-(-cells // (WORKLOADS * METRICS)))]
    return RunResults.model_validate(results(night, made, versions={"vllm": f"0.{night // 50}.0"}, launches=launches))


if __name__ == "__main__":
    sys.exit(main())
