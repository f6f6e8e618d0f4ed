"""The history's file: what is added is read back, once and wholly, and quickly."""

from __future__ import annotations

import sqlite3
import time
from datetime import timedelta

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from tests.regression.history.nights import START, cell, launch, results


def run(night: int, cells: list[dict]) -> RunResults:
    return RunResults.model_validate(results(night, cells))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "history.sqlite"


def test_what_was_added_is_read_back_in_order_of_time(store):
    with History(store, create=True) as history:
        assert history.add(run(1, [cell(1.5), cell("abc", metric="output_hash", kind="exact")])) == 2
        assert history.add(run(0, [cell(1.4, verdict="slower"), cell(None, metric="ttft_ms.p99")])) == 2
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
        assert history.add(run(0, [cell(1.5)])) == 1
        assert history.add(run(0, [cell(9.9)])) == 0
        once = run(1, [cell(1.5)])
        with pytest.raises(InputError, match="UNIQUE"):
            history.add(once.model_copy(update={"cells": once.cells * 2}))
        assert history.count() == 1
        assert history.add(run(1, [cell(1.5)])) == 1


VERSION_1 = """
CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, started REAL NOT NULL, device TEXT NOT NULL,
    versions TEXT NOT NULL);
CREATE TABLE series (id INTEGER PRIMARY KEY, device TEXT NOT NULL, cell TEXT NOT NULL, metric TEXT NOT NULL,
    unit TEXT NOT NULL, kind TEXT NOT NULL, direction TEXT NOT NULL, UNIQUE (device, cell, metric));
CREATE TABLE point (series INTEGER NOT NULL REFERENCES series, started REAL NOT NULL,
    run INTEGER NOT NULL REFERENCES run, value REAL, text TEXT, launches INTEGER NOT NULL, verdict TEXT NOT NULL,
    PRIMARY KEY (series, started, run))
    WITHOUT ROWID;
INSERT INTO series VALUES (1, 'h200', 'llama-tiny/decode', 'itl_ms.median', 'ms', 'absolute', 'lower');
INSERT INTO run VALUES (1, 'old-1', 1000, 'h200', '{"vllm": "0.31.0"}');
INSERT INTO run VALUES (2, 'old-2', 2000, 'h200', '{"vllm": "0.31.0"}');
INSERT INTO point VALUES (1, 1000, 1, 2.5, NULL, 3, 'pass'), (1, 2000, 2, 0.0, NULL, 3, 'failed-to-run');
PRAGMA user_version = 1;
"""


def test_a_store_of_version_1_is_carried_over_with_all_that_it_has(store):
    connection = sqlite3.connect(store)
    connection.executescript(VERSION_1)
    connection.close()
    for _ in range(2):  # the second time it is of this version
        with History(store) as history:
            [series] = history.series()
            assert [(point.run, point.value, point.verdict) for point in history.points(series)[:2]] == [
                ("old-1", 2.5, "pass"),
                ("old-2", None, "failed-to-run"),
            ]
            facts = history.facts("old-1")
            assert (facts.versions, facts.machine, facts.command, facts.setups) == ({"vllm": "0.31.0"}, {}, None, {})
            history.add(run(1, [cell(2.6)]))
            assert history.points(series)[-1].value == 2.6


def test_a_store_of_a_later_version_is_refused(store):
    with History(store, create=True) as history:
        history._connection.execute("PRAGMA user_version = 4")
    with pytest.raises(InputError, match="a history of schema 4, and this version reads 3"):
        History(store)


def test_what_can_differ_between_runs_is_kept(store):
    made = results(
        0,
        [cell(1.0)],
        launches=[launch("llama-tiny", {"max_num_seqs": 64}, {"A": "1"}), launch("other", {"max_num_seqs": 64})],
    )
    with History(store, create=True) as history:
        history.add(RunResults.model_validate(made))
        facts = history.facts("night-0000")
        assert facts.command == "pytest --perf"
        assert (facts.machine["name"], facts.machine["kernel"], facts.machine["cores"]) == ("H200", "6", 16)
        assert facts.setups["llama-tiny"] == {"arguments": {"max_num_seqs": 64}, "environment": {"A": "1"}}


def test_what_was_not_measured_is_a_gap_and_never_a_value(store):
    with History(store, create=True) as history:
        history.add_gap("before", START - timedelta(days=1), "quick", "interrupted")
        history.add(run(0, [cell(1.0)]), "quick")
        history.add(run(1, [cell(9.0, verdict="failed-to-run"), cell(1.0, case="served")]), "serving")
        history.add(run(2, [cell(9.0, verdict="invalid-environment")]), "quick")
        history.add_gap("lost", START + timedelta(days=3), "quick", "interrupted")
        history.add_gap("other", START + timedelta(days=4), "full", "interrupted")
        history.add(run(5, [cell(1.1)]), "quick")
        llama, served = history.series()
        assert [(point.run, point.value, point.verdict) for point in history.points(llama)] == [
            ("night-0000", 1.0, "pass"),
            ("night-0001", None, "failed-to-run"),
            ("night-0002", None, "invalid-environment"),
            ("lost", None, "not recorded"),
            ("night-0005", 1.1, "pass"),
        ]
        assert [point.run for point in history.points(llama, last=2)] == ["lost", "night-0005"]
        assert [point.run for point in history.points(served)] == ["night-0001"]


def test_a_million_rows_answer_within_a_second(store):
    """Rows written below `add`, which would need a minute for so many."""
    with History(store, create=True) as history:
        history.add(run(0, [cell(1.0, case=f"case-{index}") for index in range(1000)]))
        connection = history._connection
        with connection:
            connection.executemany(
                "INSERT INTO run (id, name, started, device, versions) VALUES (?, ?, ?, 'h200', '{}')",
                ((night, f"night-{night:04}", START.timestamp() + 86400 * night) for night in range(2, 1001)),
            )
            connection.executemany(
                "INSERT INTO point VALUES (?, ?, ?, 1.0, NULL, 3, 'pass', NULL)",
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
        history.add(run(2000, [cell(1.0, case=f"case-{index}") for index in range(100)]))
        assert history.points(chosen, last=1)[0].run == "night-1000"
        assert history.count() == 1_000_100
    assert time.perf_counter() - start < 1.0
