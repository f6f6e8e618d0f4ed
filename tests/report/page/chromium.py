"""A real, headless Chromium for the tests of the page and for `ci/page-speed`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

PROGRAMS = ("chromium", "chromedriver")
INSTALL = "apt-get install -y --no-install-recommends chromium chromium-driver"
SECONDS = 30
"""How long a chart may take to appear before a test gives up."""


def missing() -> str | None:
    """One line that says what is not installed, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found: install Debian's packages with: {INSTALL}" if absent else None


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A browser of its own, which keeps what its console says."""
    browser, driver = (shutil.which(name) for name in PROGRAMS)
    options = ChromeOptions()
    options.binary_location = browser or ""
    # Root, as in CI, has no sandbox; a container's /dev/shm is small.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = Chrome(options=options, service=Service(driver))
    try:
        yield window
    finally:
        window.quit()


def show(window: Chrome, page: Path) -> None:
    """Open a page, with a console that has said nothing yet."""
    window.get("about:blank")
    window.get_log("browser")
    window.get(page.resolve().as_uri())


def open_cell(window: Chrome, case: str, metric: str) -> None:
    """Press the row of a cell, and wait until the charts of its panel are drawn."""
    window.execute_script(
        "const row = [...document.querySelectorAll('#table tr.cell')].find((one) => one.dataset.metric === arguments[1]"
        " && one.querySelector('.open').textContent === arguments[0]);"
        "row.querySelector('.open').click();"
        "row.nextElementSibling.scrollIntoView();",
        case,
        metric,
    )
    drawn(window, ".detail .chart")


def drawn(window: Chrome, selector: str) -> list[Any]:
    """What plotly has drawn in each chart that matches: its `data` and its `layout`. Scrolls each into view."""
    for chart in window.find_elements("css selector", selector):
        window.execute_script("arguments[0].scrollIntoView()", chart)
        WebDriverWait(window, SECONDS).until(lambda _, own=chart: own.get_attribute("data-drawn"))
    return window.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((chart) => ({"
        "title: chart.closest('figure').querySelector('h4').textContent, data: chart.data, layout: {"
        "annotations: chart.layout.annotations ?? [], shapes: chart.layout.shapes ?? [],"
        "x: chart.layout.xaxis.title.text, y: chart.layout.yaxis.title.text}}))",
        selector,
    )


def shown_rows(window: Chrome) -> list[tuple[str, str]]:
    """(case, metric) of the rows that the table shows, in its order."""
    return [
        (case, metric)
        for case, metric in window.execute_script(
            "return [...document.querySelectorAll('#table tr.cell')].filter((row) => row.offsetParent !== null)"
            ".map((row) => [row.querySelector('.open').textContent, row.dataset.metric])"
        )
    ]
