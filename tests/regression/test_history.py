"""The history store and its command."""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hybrid_ops.regression import history_command
from hybrid_ops.regression.history import History, HistoryError, read_results

START = datetime(2026, 1, 1, 3, tzinfo=UTC)


def results(night: int, cells: list[dict], device: str = "h200") -> dict:
    return {
        "schema": 1,
        "run_id": f"night-{night:04}",
        "started": (START + timedelta(days=night)).isoformat(),
        "device": {"class": device},
        "versions": {"vllm": "0.32.0"},
        "cells": cells,
    }


def cell(value: float | str | None, case: str = "llama-tiny/decode", **fields: object) -> dict:
    row = {"metric": "itl_ms.median", "unit": "ms", "kind": "absolute", "direction": "lower", "verdict": "pass"}
    return {"case": case, "value": value, "launches": [value], **row, **fields}


def command(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    history_command.add_parser(parser.add_subparsers())
    return history_command.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "history.sqlite"


def test_what_was_added_is_read_back_in_order_of_time(store):
    with History(store, create=True) as history:
        assert history.add(results(1, [cell(1.5), cell("abc", metric="output_hash", kind="exact")])) == 2
        assert history.add(results(0, [cell(1.4, verdict="slower"), cell(None, metric="ttft_ms.p99")])) == 2
    with History(store) as history:
        found = {series.metric: series for series in history.series()}
        assert list(found) == ["itl_ms.median", "output_hash", "ttft_ms.p99"]
        points = history.points(found["itl_ms.median"])
        assert [(point.run, point.value, point.verdict) for point in points] == [
            ("night-0000", 1.4, "slower"),
            ("night-0001", 1.5, "pass"),
        ]
        assert points[0].started == START
        assert [point.value for point in history.points(found["itl_ms.median"], last=1)] == [1.5]
        assert history.points(found["output_hash"])[0].text == "abc"
        assert history.points(found["ttft_ms.p99"])[0].value is None
        assert [series.metric for series in history.series(metric="itl*", case="llama*")] == ["itl_ms.median"]
        assert history.series(device="a100") == []


def test_a_run_is_added_once_and_wholly(store):
    with History(store, create=True) as history:
        assert history.add(results(0, [cell(1.5)])) == 1
        assert history.add(results(0, [cell(9.9)])) == 0
        with pytest.raises(HistoryError, match="UNIQUE"):
            history.add(results(1, [cell(1.5), cell(1.6)]))
        assert history.count() == 1
        assert history.add(results(1, [cell(1.5)])) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 7}, "schema 7"),
        ({"started": "yesterday"}, "yesterday"),
        ({"device": {}}, "'class' is missing"),
        ({"cells": [{"case": "x"}]}, "a cell lacks direction"),
        ({"cells": [cell([1])]}, "no readable value"),
        ({"cells": 3}, "not iterable"),
    ],
)
def test_incomplete_results_are_refused(store, change, message):
    with History(store, create=True) as history:
        with pytest.raises(HistoryError, match=message):
            history.add(results(0, [cell(1.0)]) | change)
        assert history.count() == 0


def test_an_unreadable_history_is_one_clear_line_and_never_a_pass(tmp_path, capsys):
    garbage, other, damaged = (tmp_path / name for name in ("garbage.sqlite", "other.sqlite", "damaged.sqlite"))
    garbage.write_bytes(b"not a database at all" * 100)
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE something (x)")
    connection.close()
    with History(damaged, create=True) as history:
        for night in range(50):
            history.add(results(night, [cell(1.0, case=f"case-{index}") for index in range(50)]))
    content = bytearray(damaged.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    damaged.write_bytes(content)
    for store in (garbage, other, damaged, tmp_path / "absent.sqlite", tmp_path):
        for action in ("show", "changes"):
            assert command("history", action, "--store", store) == 2
            said = capsys.readouterr()
            assert said.err.startswith("error: ") and str(store) in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "absent.sqlite").exists()


def test_a_results_file_that_cannot_be_read_is_an_error(tmp_path, store, capsys):
    broken = tmp_path / "results.json"
    for content in ("{", "[]"):
        broken.write_text(content)
        with pytest.raises(HistoryError, match=r"results\.json"):
            read_results(broken)
    assert command("history", "add", broken, "--store", store) == 2
    assert "error: " in capsys.readouterr().err
    assert not store.exists()


def test_the_command_adds_shows_and_finds_a_step(tmp_path, store, capsys):
    source = random.Random(0)
    files = []
    for night in range(40):
        slow = 1.06 if night >= 25 else 1.0
        rows = [
            cell(2.0 * slow * source.gauss(1, 0.01)),
            cell(900 * slow * source.gauss(1, 0.01), metric="output_throughput", direction="higher"),
            cell(4096, metric="kv_cache_bytes_per_token", kind="exact", direction="none"),
            cell(0.0 if night == 30 else 5.0 * source.gauss(1, 0.01), metric="ttft_ms.median"),
        ]
        files.append(tmp_path / f"{night}.json")
        files[-1].write_text(json.dumps(results(night, rows)))
    assert command("history", "add", *files, "--store", store) == 0
    assert "4 cells added" in capsys.readouterr().out
    assert command("history", "add", files[0], "--store", store) == 0
    assert "already there" in capsys.readouterr().out
    assert command("history", "show", "--store", store, "--metric", "itl*", "--last", "3") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4

    assert command("history", "changes", "--store", store) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["itl_ms.median", "output_throughput"]
    assert "step of +" in lines[0] and "(worse)" in lines[0] and "(better)" in lines[1]
    assert command("history", "changes", "--store", store, "--metric", "output_throughput") == 0
    assert command("history", "changes", "--store", store, "--metric", "nothing") == 2


def test_a_million_rows_answer_within_a_second(store):
    """Rows written below `add`, which would need a minute for so many."""
    with History(store, create=True) as history:
        history.add(results(0, [cell(1.0, case=f"case-{index}") for index in range(1000)]))
        connection = history._connection
        with connection:
            connection.executemany(
                "INSERT INTO run (id, name, started, device, versions) VALUES (?, ?, ?, 'h200', '{}')",
                ((night, f"night-{night:04}", START.timestamp() + 86400 * night) for night in range(2, 1001)),
            )
            connection.executemany(
                "INSERT INTO point VALUES (?, ?, ?, 1.0, NULL, 3, 'pass')",
                (
                    (series, START.timestamp() + 86400 * night, night)
                    for series in range(1, 1001)
                    for night in range(2, 1001)
                ),
            )
        assert history.count() == 1_000_000
    start = time.perf_counter()
    with History(store) as history:
        [chosen] = history.series(case="case-500")
        assert len(history.points(chosen)) == 1000
        history.add(results(2000, [cell(1.0, case=f"case-{index}") for index in range(100)]))
        assert history.points(chosen, last=1)[0].run == "night-1000"
        assert history.count() == 1_000_100
    assert time.perf_counter() - start < 1.0
