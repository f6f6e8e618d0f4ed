"""The files and plots of a comparison, from a real run on the no-op engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main
from tests.plugin.comparison import ComparisonSuite
from tests.plugin.conftest import suite  # noqa: F401 - a fixture
from tests.plugin.suite import Suite
from tests.regression.history.nights import results

PLOTS = {"memory_comparison", "throughput_comparison", "latency_percentiles", "latency_vs_input_length",
         "memory_efficiency", "by_model"}  # fmt: skip


def pixels(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def without_configuration(document: dict[str, Any], attention: str) -> dict[str, Any]:
    kept = {case: own for case, own in document["comparisons"].items() if own["attention"] != attention}
    return {**document, "comparisons": kept}


def test_a_run_leaves_the_files_of_the_suite_and_the_command_makes_them_again(
    suite: Suite,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compared = ComparisonSuite(suite)
    assert compared.run("--perf-launches=1").ret == 0
    [folder] = (compared.root / "perf_results").iterdir()
    document = json.loads((folder / "results.json").read_text())

    assert main(["plot", str(folder), "--output-dir", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr().out.split()
    for place in (folder, tmp_path / "again"):
        assert {path.stem for path in (place / "plots").glob("*.png")} == PLOTS
        for path in (place / "plots").glob("*.png"):
            width, height = pixels(path)
            assert 1000 < width < 4000
            assert 500 < height < 2000
            assert path.stat().st_size > 10_000
        for attention in ("full", "sliding", "hybrid"):
            path = place / f"{attention}_results.json"
            assert path == folder / path.name or str(path) in printed
            check_results(json.loads(path.read_text()), document, attention)
        summary = (place / "plots" / "summary.md").read_text()
        assert "| Hybrid (SSM+SW) | 64 (of 128) |" in summary
        assert "KV-cache memory is lower than full attention's" in summary

    other = tmp_path / "svg"
    assert main(["plot", str(folder / "results.json"), "--output-dir", str(other), "--format", "svg"]) == 0
    assert {path.stem for path in (other / "plots").glob("*.svg")} == PLOTS
    drawn = (other / "plots" / "throughput_comparison.svg").read_text()
    assert "Throughput over input lengths" in drawn.replace("&#x", "")

    partial = tmp_path / "partial.json"
    partial.write_text(json.dumps(without_configuration(document, "sliding")))
    capsys.readouterr()
    assert main(["plot", str(partial)]) == 2
    assert capsys.readouterr().err == (f"hybrid-perf: error: {partial}: toy: no results of the configuration sliding\n")
    assert not (tmp_path / "plots").exists()
    assert main(["plot", str(folder), "--output-dir", str(partial / "below")]) == 2
    assert "cannot be written (Not a directory)" in capsys.readouterr().err


def check_results(written: dict[str, Any], document: dict[str, Any], attention: str) -> None:
    """A configuration's file holds exactly what the run's results hold."""
    assert (written["configuration"], written["model"]) == (attention, f"toy-{attention}")
    assert [entry["input_len"] for entry in written["results"]] == [16, 32, 64]
    cells = {cell["cell"]: cell for cell in document["cells"]}
    for entry in written["results"]:
        for name, figure in entry["metrics"].items():
            cell = cells[f"{entry['case']}-{name}"]
            assert (figure["value"], figure["unit"]) == (pytest.approx(cell["value"]), cell["unit"])
            assert figure["launches"] == cell["launches"]
        own = {cell["metric"] for cell in cells.values() if cell["case"] == entry["case"] and cell["unit"] != "ratio"}
        assert entry["metrics"].keys() == own
    assert written["claims"] == (document["claims"] if attention == "hybrid" else [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "not JSON: *"),
        ("[]", "not the results.json of a run"),
        ('{"run_id": "r", "launches": [], "cells": []}', "schema: this release reads version 1, the file says None"),
        (json.dumps(results(0, [])), "it has nothing to draw: *"),
        (json.dumps(results(0, []) | {"comparisons": {}}), "it has nothing to draw: *"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    assert main(["plot", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    head = f"hybrid-perf: error: {path}: {message.removesuffix('*')}"
    assert error.startswith(head)
    assert error.count("\n") == 1
