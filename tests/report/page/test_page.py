"""The page of a run in a real Chromium: what it shows, what its filters hide, and that nothing in it is believed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.select import Select

from hybrid_ops.regression.results import RunResults, read_results
from hybrid_ops.report.page.report import PAGE_FILE, write_page
from tests.regression.history.nights import cell, results
from tests.report.page.chromium import drawn, open_cell, show, shown_rows
from tests.report.page.conftest import HOSTILE, NIGHTS, STEP_NIGHT, night_of


def texts(window: Chrome, selector: str) -> list[str]:
    return [found.text for found in window.find_elements("css selector", selector)]


def choose(window: Chrome, name: str, value: str) -> None:
    Select(window.find_element("id", f"filter-{name}")).select_by_visible_text(value)


def test_the_worst_comes_first(browser: Chrome, page: Path) -> None:
    show(browser, page)
    verdicts = texts(browser, "#table .cell .verdict")
    assert verdicts == ["slower", "changed", "failed-to-run", "pass", "pass", "pass"]
    assert texts(browser, ".counts button") == ["1 slower", "1 changed", "1 failed-to-run", "3 pass"]
    assert texts(browser, ".concerns li .verdict") == ["slower", "changed", "failed-to-run"]


def test_filters_hide_the_right_rows(browser: Chrome, page: Path) -> None:
    show(browser, page)
    assert len(shown_rows(browser)) == 6
    choose(browser, "model", "llama-tiny")
    choose(browser, "workload", "short")
    both = [("llama-tiny/short", "itl_ms.median"), ("llama-tiny/short", "leading_tokens")]
    assert sorted(shown_rows(browser)) == both
    choose(browser, "metric", "leading_tokens")
    assert shown_rows(browser) == [("llama-tiny/short", "leading_tokens")]
    assert browser.find_element("id", "shown").text == "1 of 6 cells"
    for name, everything in (("model", "all models"), ("workload", "all workloads"), ("metric", "all metrics")):
        choose(browser, name, everything)
    choose(browser, "verdict", "failed-to-run")
    assert shown_rows(browser) == [("dying/short", "itl_ms.median")]
    choose(browser, "verdict", "all verdicts")
    browser.find_element("id", "filter-text").send_keys("long concurrency")
    assert shown_rows(browser) == [("llama-tiny/long", "max_concurrency@4096")]


def test_a_count_at_the_top_filters_by_its_verdict(browser: Chrome, page: Path) -> None:
    show(browser, page)
    browser.find_element("css selector", ".counts .changed").click()
    assert shown_rows(browser) == [(f"{HOSTILE}/short", "itl_ms.median")]


def test_an_open_panel_is_hidden_with_its_row(browser: Chrome, page: Path) -> None:
    show(browser, page)
    open_cell(browser, "llama-tiny/short", "itl_ms.median")
    choose(browser, "model", "dying")
    assert not browser.find_element("css selector", ".detail").is_displayed()


def test_hostile_names_and_errors_are_shown_as_text(browser: Chrome, page: Path) -> None:
    show(browser, page)
    assert f"{HOSTILE}/short" in texts(browser, "#table .open")
    assert "RuntimeError: </script><b>no such weights</b>" in texts(browser, ".concerns .reason")
    open_cell(browser, f"{HOSTILE}/short", "itl_ms.median")
    assert f"{HOSTILE} differs" in browser.find_element("css selector", ".detail .reason").text
    assert browser.find_elements("css selector", "img, .detail b") == []
    assert browser.get_log("browser") == []


def test_an_opened_cell_shows_its_launches_baseline_tolerance_and_interval(browser: Chrome, page: Path) -> None:
    show(browser, page)
    open_cell(browser, "llama-tiny/short", "itl_ms.median")
    launches = drawn(browser, ".detail .chart")[0]
    own = next(one for one in night_of(NIGHTS - 1).cells if one.verdict == "slower")
    assert launches["title"] == "itl_ms.median of each launch"
    assert [trace["y"] for trace in launches["data"][:2]] == [own.baseline_launches, own.launches]
    [line, band] = launches["layout"]["shapes"]
    assert line["y0"] == line["y1"] == 2.0
    assert (band["y0"], band["y1"]) == pytest.approx((2.0 / 1.1, 2.0 * 1.1))
    error = launches["data"][2]["error_y"]
    assert own.value + error["array"][0] == pytest.approx(2.0 * 2.718281828**0.3)
    assert launches["layout"]["y"] == "itl_ms.median (ms)"
    commands = texts(browser, ".detail .command code")
    assert commands == ["pytest --perf -k llama-tiny/short", "pytest --perf --update-baselines -k llama-tiny/short"]


def test_the_history_has_its_change_point_and_its_versions(browser: Chrome, page: Path) -> None:
    show(browser, page)
    open_cell(browser, "llama-tiny/short", "itl_ms.median")
    history = drawn(browser, ".detail .chart")[1]
    dots = [trace for trace in history["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["y"]) for trace in dots) == NIGHTS
    assert {trace["name"]: len(trace["y"]) for trace in dots} == {"pass": STEP_NIGHT, "slower": NIGHTS - STEP_NIGHT}
    said = [annotation["text"] for annotation in history["layout"]["annotations"]]
    assert any(re.fullmatch(r"step \+(29|30|31)\.\d %", text) for text in said)
    assert "vllm 0.32.0 → 0.33.0" in said
    [change] = texts(browser, ".detail .change")
    assert f"first bad night-{STEP_NIGHT:04}" in change and "differs: vllm 0.32.0 -> 0.33.0" in change
    assert "step +" in browser.find_element("css selector", "#table .trend").text


def test_roofline_and_conditions_are_drawn_with_their_axes(browser: Chrome, page: Path) -> None:
    show(browser, page)
    [roofline] = drawn(browser, "#roofline .chart")
    assert [(trace["x"], trace["y"]) for trace in roofline["data"]] == [([30.0], [5e9]), ([0.5], [1e9])]
    assert roofline["layout"]["x"] == "FLOPs per byte moved (arithmetic intensity)"
    [concurrency] = drawn(browser, "#caches .chart")
    assert (concurrency["data"][0]["x"], concurrency["data"][0]["y"]) == ([4096], [40])
    [load] = drawn(browser, "#launches .chart")
    assert load["title"] == "Load of other processes" and load["data"][0]["y"] == [2.0]
    assert browser.get_log("browser") == []


def test_pairs_of_arms_are_drawn_as_changes(browser: Chrome, tmp_path: Path) -> None:
    arm = {"interpreter": "python", "environment": {}, "arguments": {}}
    paired = cell(2.2, compared_with="arm a", baseline=2.0, tolerance=0.05, launches=[2.2, 2.2],
                  baseline_launches=[2.0, 2.0], log_ratios=[0.1, 0.2], interval=[0.05, 0.25],
                  verdict="slower", reason="worse")  # fmt: skip
    run = RunResults.model_validate(results(0, [paired], arms=[{"name": name, **arm} for name in "ab"]))
    show(browser, write_page(run, tmp_path, tmp_path / PAGE_FILE, None))
    open_cell(browser, "llama-tiny/decode", "itl_ms.median")
    pairs, launches = drawn(browser, ".detail .chart")
    assert pairs["data"][0]["y"] == pytest.approx([10.517, 22.140], abs=1e-3)
    assert [trace["name"] for trace in launches["data"]][:2] == ["arm a", "arm b"]
    assert texts(browser, ".detail .command code") == ["pytest --perf -k llama-tiny/decode"], "arms have no baseline"


def test_a_real_run_leaves_its_page_with_its_logs_linked(browser: Chrome, measured: Path) -> None:
    run = read_results(measured)
    show(browser, measured.parent / PAGE_FILE)
    assert len(shown_rows(browser)) == len(run.cells)
    links = [link.get_attribute("href") for link in browser.find_elements("css selector", "#launches a")]
    paths = {Path(unquote(urlparse(link).path)).resolve() for link in links}
    assert paths == {Path(launch.log).resolve() for launch in run.single_launches}
    assert all(path.is_file() for path in paths)
    assert "no such weights" in browser.find_element("id", "attention").text
    assert browser.get_log("browser") == []


def test_a_run_that_was_moved_still_links_its_logs(browser: Chrome, measured: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where#1" / "run"
    elsewhere.parent.mkdir()
    measured.parent.rename(elsewhere)
    try:
        page = write_page(read_results(elsewhere), elsewhere, elsewhere / PAGE_FILE, None)
        show(browser, page)
        links = [link.get_attribute("href") for link in browser.find_elements("css selector", "#launches a")]
        assert links and all(Path(unquote(urlparse(link).path)).is_relative_to(elsewhere) for link in links)
        assert all(Path(unquote(urlparse(link).path)).is_file() for link in links)
    finally:
        elsewhere.rename(measured.parent)


def test_the_page_needs_no_network_and_its_console_is_silent(browser: Chrome, page: Path) -> None:
    show(browser, page)
    for case, metric in shown_rows(browser):
        open_cell(browser, case, metric)
    drawn(browser, "main > section > figure .chart")
    assert browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []
    assert browser.get_log("browser") == []


def test_the_page_follows_the_readers_colours(browser: Chrome, page: Path) -> None:
    show(browser, page)
    backgrounds = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        backgrounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(20, 24, 30)"]


def test_a_narrow_window_shows_everything_without_scrolling_sideways(browser: Chrome, page: Path) -> None:
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        show(browser, page)
        open_cell(browser, "llama-tiny/short", "itl_ms.median")
        width, visible = browser.execute_script(
            "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        )
        assert width == visible <= 390  # a scroll bar at the side takes some
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_history_that_cannot_be_read_is_said_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_text("no database")
    text = write_page(night_of(0), tmp_path, tmp_path / PAGE_FILE, tmp_path / "history.sqlite").read_text()
    assert "Without the whole history: " in text and "not a history that can be used" in text
    cells = re.search(r'id="cell-data">(.*?)</script>', text)
    assert cells is not None
    assert len(json.loads(cells[1])) == 6
