"""What nights cost, as the history keeps and prints it."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main
from hybrid_ops.regression.history.schema import _MIGRATIONS, _TABLES
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from tests.regression.history.nights import START, cell, results


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def run(
    night: int, gpus: int | None = 1, name: str | None = None, device: str = "h200", **engines: float
) -> RunResults:
    """A run in which each engine took so many minutes, and a minute was spent beside."""
    launching = 60 * sum(engines.values())
    held = {name: None if gpus is None else 60 * minutes * gpus for name, minutes in engines.items()}
    cost: dict[str, Any] = {
        "seconds": launching + 60,
        "launching_seconds": launching,
        "waiting_seconds": 0,
        "other_seconds": 60,
        "gpu_seconds": None if gpus is None else launching * gpus,
        "budget_seconds": 200,
        "engines": [
            {"engine": name, "launches": 2, "cells": 1, "verdicts": {"pass": 1}, "seconds": 60 * minutes,
             "gpu_seconds": held[name]}
            for name, minutes in engines.items()
        ],
        "verdicts": [],
        "left_out": [],
    }  # fmt: skip
    made = results(night, [cell(1.0)], device=device) | {"cost": cost if engines else None}
    return RunResults.model_validate(made | ({"run_id": name} if name else {}))


def table(store: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[str]]:
    """The printed rows by their first cell, those of GPUs by `GPU <engine>`."""
    assert main(["history", "cost", "--store", str(store), *words]) == 0
    rows: dict[str, list[str]] = {}
    part = ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("| "):
            first, *cells = [text.strip() for text in line.strip("|").split("|")]
            part = "GPU " if first == "GPU, by engine" else part
            rows[first if first == "GPU, by engine" else part + first] = cells
    return rows


def test_a_night_is_both_of_its_runs_and_a_trend_is_over_the_nights_before(store: Path, capsys: Any) -> None:
    with History(store, create=True) as history:
        for night, hybrid in enumerate((4.0, 5.0, 6.0)):
            history.add(run(night, hybrid=hybrid, full=2.0), "full")
        history.add(run(2, name="night-0002-serving", server=3.0), "serving")
    rows = table(store, capsys)
    assert rows["machine"] == ["7.0", "8.0", "13.0", "+73 %"]
    assert rows["GPU"] == ["6.0", "7.0", "11.0", "+69 %"]
    assert rows["hybrid"] == rows["GPU hybrid"] == ["4.0", "5.0", "6.0", "+33 %"]
    assert rows["server"] == ["", "", "3.0", "-"], "the nights before had none"
    assert rows["full"][-1] == "+0 %"
    assert table(store, capsys, "--last", "1")["machine"] == ["13.0", "-"]


def test_what_is_not_known_is_a_dash_and_never_a_zero(store: Path, capsys: Any) -> None:
    with History(store, create=True) as history:
        history.add(run(0, gpus=None, server=3.0), "serving")
        history.add(run(1), "serving")
        history.add_gap("night-0002-serving", START + timedelta(days=2), "serving", "interrupted")
        history.add_gap("night-0003", START + timedelta(days=3), "other", "interrupted")
        history.add(run(4, gpus=0, server=6.0), "serving")
    rows = table(store, capsys)
    assert rows["machine"] == ["4.0", "-", "-", "7.0", "+75 %"]
    assert rows["GPU"] == ["-", "-", "-", "0.0", "-"]
    assert rows["server"] == ["3.0", "", "", "6.0", "+100 %"]
    assert "GPU, by engine" not in rows


def test_a_store_of_version_2_keeps_everything_and_its_nights_have_no_cost(store: Path, capsys: Any) -> None:
    connection = sqlite3.connect(store)
    connection.executescript(f"{_TABLES}{_MIGRATIONS[1]} PRAGMA user_version = 2;")
    connection.executescript(
        """
        INSERT INTO series VALUES (1, 'h200', 'llama-tiny/decode', 'itl_ms.median', 'ms', 'absolute', 'lower');
        INSERT INTO run VALUES (1, 'old', 1000, 'h200', '{}', '{"name": "H200"}', 'pytest --perf', NULL, NULL);
        INSERT INTO point VALUES (1, 1000, 1, 2.5, NULL, 3, 'pass', 2.4);
        INSERT INTO setup VALUES ('ab', '{"arguments": {"x": 1}, "environment": {}}');
        INSERT INTO launch VALUES (1, 'llama-tiny', 'ab');
        """
    )
    connection.close()
    with History(store) as history:
        history.add(run(0, hybrid=4.0))
        [series] = history.series()
        assert [(point.value, point.baseline) for point in history.points(series)] == [(2.5, 2.4), (1.0, None)]
        facts = history.facts("old")
        assert (facts.machine, facts.setups["llama-tiny"]["arguments"]) == ({"name": "H200"}, {"x": 1})
    assert table(store, capsys)["machine"] == ["-", "5.0", "-"]


def test_each_device_class_has_tables_of_its_own(store: Path, capsys: Any) -> None:
    with History(store, create=True) as history:
        history.add(run(0, hybrid=4.0))
        history.add(run(0, name="other", device="b200", hybrid=1.0))
    assert main(["history", "cost", "--store", str(store)]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[4] for line in printed.splitlines() if line.startswith("what each night on")] == [
        "b200", "h200",
    ]  # fmt: skip
    assert table(store, capsys, "--device", "b*")["machine"] == ["2.0", "-"]
    assert main(["history", "cost", "--store", str(store), "--device", "a100"]) == 2
    assert capsys.readouterr().err == f"hybrid-perf: error: {store}: no run matches --device\n"
