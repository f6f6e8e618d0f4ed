"""`hybrid-perf log`: entries of a benchmark log from real runs on the no-op engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


def test_an_entry_has_the_form_of_the_log(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.md"
    words = ["log", str(measured), "--file", str(log), "--title", "first", "--note", "a note of one's own"]
    assert main(words) == 0
    run: dict[str, Any] = json.loads(measured.read_text())
    assert capsys.readouterr().out == f"{log}: added the run {run['run_id']}\n"
    head, entry = log.read_text().split("\n---\n")
    assert head.startswith("# Generation Benchmark Log\n")
    headings = [line for line in entry.splitlines() if line.startswith("#")]
    assert headings == [
        f"## {run['started'][:10]} — first",
        "### E2E throughput (tok/s)",
        "### Decode throughput (tok/s)",
        "### Per-step decode latency (ms)",
        "### TTFT / prefill (ms)",
        "### KV cache memory (MB) and peak memory (GB)",
        "### Notes",
    ]
    assert f"**Hardware**: {run['device']['name']} (" in entry
    heading, rule, brief, wide = cells_of(entry.split("### E2E")[1].split("###")[0])
    assert heading == ["Config", "steady", "broken"]
    assert set(rule[1]) == {"-", ":"}
    values = {cell["cell"]: cell["value"] for cell in run["cells"]}
    assert brief == ["brief", f"{values['steady/brief-output_throughput']:.1f}", "—"]
    assert wide == ["wide", f"{values['steady/wide-output_throughput']:.1f}", "—"]
    [heading, *_] = cells_of(entry.split("### Per-step")[1].split("###")[0])
    assert heading == ["Config", "steady P50", "steady P95", "broken P50", "broken P95"]
    notes = entry.split("### Notes")[1].splitlines()
    assert notes[2] == "- a note of one's own"
    assert any(line.startswith("- broken/brief: failed-to-run: ") and "no such weights" in line for line in notes)


def test_entries_are_appended_once(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.md"
    log.write_text("# Mine\n\nkept as it is\n")
    document = json.loads(measured.read_text())
    later = tmp_path / "later.json"
    later.write_text(json.dumps({**document, "run_id": "later"}))
    for path in (measured, later, measured):
        assert main(["log", str(path), "--file", str(log)]) == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("is already there")
    text = log.read_text()
    assert text.startswith("# Mine\n\nkept as it is\n\n---\n\n## ")
    titles = [line.split(" — ")[1] for line in text.splitlines() if line.startswith("## ")]
    assert titles == [document["run_id"], "later"]
    before = text
    assert main(["log", str(measured), "--file", str(log), "--print"]) == 0
    assert capsys.readouterr().out.startswith("## ")
    assert log.read_text() == before


def test_what_has_no_generation_is_refused(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(measured.read_text())
    arm = {"name": "a", "interpreter": "python", "environment": {}, "arguments": {}}
    for change, message in (
        ({"cells": []}, "no generation was measured"),
        ({"arms": [arm, arm]}, "a comparison of two arms has no figures of its own"),
    ):
        path = tmp_path / "other.json"
        path.write_text(json.dumps(document | change))
        assert main(["log", str(path), "--file", str(tmp_path / "log.md")]) == 2
        assert capsys.readouterr().err.startswith(f"hybrid-perf: error: {path}: {message}")
    assert not (tmp_path / "log.md").exists()
