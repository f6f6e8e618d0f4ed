"""`hybrid-perf import` and `hybrid-perf export`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main
from hybrid_ops.regression.results import read_results
from tests.regression.history import nights
from tests.report.interchange.test_vllm_bench import APPENDED, DETAILED, NEEDED, documents


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words: str | Path) -> int:
    return main([*map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that bad input gets."""
    assert command(*words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err.removeprefix("hybrid-perf: error: ").rstrip()


def test_an_imported_file_is_a_run_for_everything_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("import", DETAILED, APPENDED, "--device", "cpu-x", "--results", "runs") == 0
    first, second = capsys.readouterr().out.splitlines()
    path = Path(first.partition(":")[0])
    assert first == f"{path}: 25 cells of llama-tiny/chat-c2, from {DETAILED}"
    assert "15 cells of llama-tiny/openai-c2-50rps" in second
    assert {file.name for file in path.parent.iterdir()} == {
        *("results.json", "summary.md", "serving.txt", "junit.xml", "report.html"),
    }
    assert read_results(path).device.device_class == "cpu-x"
    assert command("history", "add", path, "--store", "h.sqlite") == 0
    assert command("history", "show", "--store", "h.sqlite", "--metric", "completed", "--device", "cpu-x") == 0
    assert "completed (requests) on cpu-x" in capsys.readouterr().out

    assert command("export", path.parent, "--format", "vllm-bench") == 0
    assert documents(capsys.readouterr().out) == documents(DETAILED.read_text())
    again = refused(capsys, "import", DETAILED, "--device", "cpu-x", "--results", "runs")
    assert again == f"{DETAILED}: it has been imported already: {path.parent}; remove that folder first"


def test_nothing_is_imported_where_one_file_is_bad(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.json").write_bytes(b"\xff")
    assert refused(capsys, "import", DETAILED, "bad.json").startswith("bad.json: not a text in UTF-8: ")
    assert refused(capsys, "import", DETAILED, "none.json") == "none.json: cannot be read (No such file or directory)"
    assert refused(capsys, "import", DETAILED, "--case", "chat").startswith(f"{DETAILED}: the case 'chat' is no MODEL/")
    assert refused(capsys, "import", DETAILED, "--results", "bad.json").startswith("bad.json/2026")
    assert [path.name for path in here.iterdir()] == ["bad.json"]


def test_a_case_is_named_by_hand(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("import", APPENDED, "--case", "my-model@fp8/chat") == 0
    assert "15 cells of my-model@fp8/chat" in capsys.readouterr().out


@pytest.fixture
def run_folder(here: Path) -> Path:
    cells = [nights.cell(1.5), nights.cell(9.0, metric="output_throughput", direction="higher")]
    (here / "results.json").write_text(json.dumps(nights.results(0, cells)))
    return here


def test_several_files_are_written_beside_each_other_or_chosen(run_folder: Path, capsys: Any) -> None:
    export = ("export", run_folder, "--format", "github-action-benchmark")
    assert command(*export, "--output", "bench.json") == 0
    assert capsys.readouterr().out.splitlines() == ["bench-bigger.json", "bench-smaller.json"]
    assert json.loads((run_folder / "bench-bigger.json").read_text())[0]["value"] == 9.0
    assert command(*export, "--only", "smaller") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "llama-tiny/decode itl_ms.median"
    assert command(*export, "--only", "smaller", "--output", "one.json") == 0
    assert capsys.readouterr().out == "one.json\n"
    assert refused(capsys, *export) == (
        f"{run_folder}: 2 files (bigger, smaller): choose one with --only, or give --output"
    )
    assert refused(capsys, *export, "--only", "best") == f"{run_folder}: --only: it has bigger, smaller, and no 'best'"
    assert refused(capsys, *export, "--output", "no/bench.json") == (
        "no/bench-bigger.json: cannot be written (No such file or directory); choose another with --output"
    )


def test_cases_go_into_files_of_their_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loads = [json.dumps(NEEDED | {"max_concurrency": limit}) for limit in (1, 8)]
    (here / "sweep.json").write_text("\n".join(loads))
    assert command("import", "sweep.json") == 0
    folder = Path(capsys.readouterr().out.partition("/results.json")[0])
    assert command("export", folder, "--format", "vllm-bench", "--output", "out.json") == 0
    assert capsys.readouterr().out.splitlines() == ["out-model-serve-c1.json", "out-model-serve-c8.json"]
    assert (here / "out-model-serve-c8.json").read_text() == loads[1] + "\n"


def test_what_cannot_be_exported_is_one_line(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "export", run_folder, "--format", "vllm-bench").startswith(
        f"{run_folder}: no load on a server was measured"
    )
    assert refused(capsys, "export", "none", "--format", "openmetrics").startswith("none: cannot be read")
    assert command("export", run_folder, "--format", "openmetrics") == 0
    assert capsys.readouterr().out.endswith("# EOF\n")
