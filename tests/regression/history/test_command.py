"""`hybrid-perf history`, as it is typed."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

import pytest

from hybrid_ops.cli import main
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from tests.regression.history.nights import cell, results


def command(*words: str | Path) -> int:
    return main(["history", *map(str, words)])


@pytest.fixture
def store(tmp_path):
    return tmp_path / "history.sqlite"


def test_an_unreadable_history_is_one_clear_line_and_never_a_pass(tmp_path, capsys):
    garbage, other, damaged = (tmp_path / name for name in ("garbage.sqlite", "other.sqlite", "damaged.sqlite"))
    garbage.write_bytes(b"not a database at all" * 100)
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE something (x)")
    connection.close()
    with History(damaged, create=True) as history:
        for night in range(50):
            history.add(
                RunResults.model_validate(results(night, [cell(1.0, case=f"case-{index}") for index in range(50)]))
            )
    content = bytearray(damaged.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    damaged.write_bytes(content)
    for store in (garbage, other, damaged, tmp_path / "absent.sqlite", tmp_path):
        for action in ("show", "changes", "cost"):
            assert command(action, "--store", store) == 2
            said = capsys.readouterr()
            assert said.err.startswith(f"hybrid-perf: error: {store}: ") and said.err.count("\n") == 1
    assert not (tmp_path / "absent.sqlite").exists()


def test_nothing_is_added_where_one_file_is_bad(tmp_path, store, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(results(0, [cell(1.0)])))
    bad.write_text("{")
    assert command("add", good, bad, "--store", store) == 2
    assert capsys.readouterr().err.startswith(f"hybrid-perf: error: {bad}: not JSON")
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
    assert command("add", *files, "--store", store) == 0
    assert "4 cells added" in capsys.readouterr().out
    assert command("add", files[0], "--store", store) == 0
    assert "already there" in capsys.readouterr().out
    assert command("show", "--store", store, "--metric", "itl*", "--last", "3") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4

    assert command("changes", "--store", store) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in lines] == ["itl_ms.median", "output_throughput"]
    assert "step of +" in lines[0] and "(worse)" in lines[0] and "(better)" in lines[1]
    assert command("changes", "--store", store, "--metric", "output_throughput") == 0
    assert command("changes", "--store", store, "--metric", "nothing") == 2
