"""`hybrid-perf report`: the page again, and the page of a history alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from hybrid_ops.cli import main
from hybrid_ops.report.page.report import PAGE_FILE
from tests.report.page.chromium import drawn, open_cell, show, shown_rows
from tests.report.page.conftest import NIGHTS


def data_of(text: str) -> str:
    """What the scripts of a page read. Links to files differ with the place of the page."""
    return text[text.index('id="cell-data"') : text.index('id="plotly"')]


def command(*words: str | Path) -> int:
    return main(["report", *map(str, words)])


def test_the_page_of_a_run_is_made_again(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for results in (page.parent, page.parent / "results.json"):
        assert command(results, "-o", tmp_path / "again.html") == 0
        assert capsys.readouterr().out == f"{tmp_path / 'again.html'}\n"
        again = (tmp_path / "again.html").read_text()
        assert data_of(again) == data_of(page.read_text())
        (tmp_path / "again.html").unlink()


def test_a_history_alone_shows_trends(
    browser: Chrome, nights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--store", nights / "history.sqlite", "-o", tmp_path / "trends.html", "--case", "llama-tiny/*") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'trends.html'}\n"
    show(browser, tmp_path / "trends.html")
    rows = shown_rows(browser)
    assert rows[0] == ("llama-tiny/short", "itl_ms.median"), "the open change for the worse comes first"
    assert len(rows) == 4
    open_cell(browser, *rows[0])
    [history] = drawn(browser, ".detail .chart")
    dots = [trace for trace in history["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["y"]) for trace in dots) == NIGHTS - 1
    assert any(annotation["text"].startswith("step +") for annotation in history["layout"]["annotations"])
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a run's folder, or a history with --store FILE"),
        (("nowhere",), "nowhere: cannot be read"),
        (("--store", "nowhere.sqlite"), "nowhere.sqlite: no history is there"),
    ],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"hybrid-perf: error: {message}") and said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert command(page.parent, "-o", tmp_path / "file" / PAGE_FILE) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said and "the page cannot be written" in said and said.count("\n") == 1


def test_cells_that_do_not_match_are_an_error(nights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--store", nights / "history.sqlite", "--case", "nobody/*") == 2
    assert "no cell matches --case, --metric and --device" in capsys.readouterr().err
