"""The history's file: what is added is read back, once and wholly, and quickly."""

from __future__ import annotations

import time

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from tests.regression.history.nights import START, cell, results


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
