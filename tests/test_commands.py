"""Every subcommand of `hybrid-perf` through the installed program, in a folder of its own, with good and bad input."""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import COMMANDS, build_parser
from tests.plugin.comparison import ComparisonSuite
from tests.plugin.suite import Suite

PROGRAM = Path(sys.executable).with_name("hybrid-perf")
ROOT = Path(__file__).parents[1]
ZOO = ROOT / "hybrid_ops" / "models" / "zoo"
NIGHTS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return empty


def perf(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, on this checkout's code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [str(PROGRAM), *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def printed(folder: Path, *words: str | Path, code: int = 0) -> str:
    """What the program prints where all is well."""
    done = perf(folder, *words)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_command_is_tested_here() -> None:
    [subparsers] = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert set(subparsers.choices) == {words[0] for words, _ in BAD_INPUT} == COMMANDS.keys()


def test_capacity(folder: Path) -> None:
    text = printed(folder, "capacity", "falcon-h1-7b", "--tp", "2", "--cache-memory", "62.89GB",
                   "--state-dtype", "bfloat16")  # fmt: skip
    assert "| 32768           |          80.91x |" in text


def test_cost(folder: Path) -> None:
    text = printed(folder, "cost", "nemotron-h-8b", "--batch", "2", "--device", "h200", "--seconds", "1", "--json")
    report = json.loads(text)
    assert report["workload"] == {"batch": 2, "prompt": 1024, "generation": 128}
    assert 0 < report["utilisation"]["mfu"] < 1


@pytest.mark.parametrize("pattern", ["random", pytest.param("shared-prefix", marks=pytest.mark.long)])
def test_data_of_drawn_prompts(folder: Path, pattern: str) -> None:
    text = printed(folder, "data", pattern, "--tokenizer", "words", "--input-lengths", "16,32", "--num-prompts", "3",
                   "--output-file", "prompts.jsonl")  # fmt: skip
    assert text.startswith("prompts.jsonl: 6 prompts; ")
    prompts = lines_of(folder / "prompts.jsonl")
    assert [prompt["prompt_tokens"] for prompt in prompts] == [16] * 3 + [32] * 3
    beginnings = {" ".join(prompt["prompt"].split()[:8]) for prompt in prompts[:3]}
    assert len(beginnings) == (1 if pattern == "shared-prefix" else 3)


def test_data_of_conversations(folder: Path) -> None:
    assert printed(folder, "data", "sharegpt", "--num-prompts", "4", "--output-file", "made.json").endswith(
        "made.json: 4 conversations\n"
    )
    text = printed(folder, "data", "sharegpt", "--from", "made.json", "--num-prompts", "2", "--output-file", "two.json")
    assert text == "made.json: 4 conversations\ntwo.json: 2 conversations\n"
    assert json.loads((folder / "two.json").read_text()) == json.loads((folder / "made.json").read_text())[:2]


def nights_with_a_step(results: dict[str, Any], folder: Path) -> list[Path]:
    """A run's results as those of twelve nights; the latter half takes a fifth more time a token."""
    paths = []
    started = datetime.fromisoformat(results["started"])
    for night in range(NIGHTS):
        copied = copy.deepcopy(results)
        copied["run_id"] = f"night-{night:02}"
        copied["started"] = (started + timedelta(days=night - NIGHTS)).isoformat()
        for cell in copied["cells"]:
            if cell["metric"] == "median_itl_ms":
                cell["value"] *= (1.2 if night >= NIGHTS / 2 else 1.0) * (1 + 0.001 * (night % 3))
        paths.append(folder / f"night-{night:02}.json")
        paths[-1].write_text(json.dumps(copied))
    return paths


def test_history(folder: Path, pytester: pytest.Pytester) -> None:
    suite = Suite(pytester)
    suite.add_model("steady")
    assert suite.run("--perf-launches=1").ret == 0
    [real] = (suite.root / "perf_results").glob("*/results.json")
    results = json.loads(real.read_text())
    count = len(results["cells"])

    nights = nights_with_a_step(results, folder)
    added = printed(folder, "history", "add", *nights, nights[0])
    assert added.splitlines() == [
        *(f"{night}: {count} cells added" for night in nights),
        f"{nights[0]}: nothing added, the run is already there",
    ]
    assert (folder / "perf_results" / "history.sqlite").is_file()
    shown = printed(folder, "history", "show", "--case", "steady/*", "--metric", "median_itl_ms", "--last", "3")
    head, *points = shown.splitlines()
    assert head.startswith("steady/brief median_itl_ms (ms) on ")
    assert [point.split()[-1] for point in points] == ["night-09", "night-10", "night-11"]

    step, between, differs = printed(folder, "history", "changes", code=1).splitlines()
    assert step.startswith("steady/brief median_itl_ms on ") and ": step of +20.0% (worse), " in step
    assert between.startswith("  last good night-05 (") and ", first bad night-06 (" in between
    assert differs == "  differs: nothing that is recorded differs"

    costs = printed(folder, "history", "cost", "--last", "3").splitlines()
    [engine] = [line.strip("|").split("|") for line in costs if line.startswith("| steady")]
    minutes = f"{results['cost']['engines'][0]['seconds'] / 60:.1f}"
    assert [text.strip() for text in engine] == ["steady", minutes, minutes, minutes, "+0 %"]


def test_plot(folder: Path, pytester: pytest.Pytester) -> None:
    compared = ComparisonSuite(Suite(pytester))
    assert compared.run("--perf-launches=1").ret == 0
    [run] = (compared.root / "perf_results").iterdir()
    paths = [Path(line) for line in printed(folder, "plot", run, "--output-dir", "out").splitlines()]
    assert {path.name for path in paths} >= {"hybrid_results.json", "throughput_comparison.png", "summary.md"}
    assert all((folder / path).stat().st_size for path in paths)


def test_published(folder: Path) -> None:
    text = printed(folder, "published", "olmo_hybrid_vllm_serving")
    assert "| 1× NVIDIA B200 GPU | 1,765 tok/s | 4,424ms | 14ms |" in text
    assert "| Output gen (tok/s), 1× H100 |               output_throughput | 1066 tok/s |" in text


def test_import_and_export(folder: Path) -> None:
    real = ROOT / "tests" / "report" / "interchange" / "real" / "detailed.json"
    imported = printed(folder, "import", real, "--case", "llama-tiny/chat")
    run = Path(imported.partition(": ")[0]).parent
    assert imported.endswith(f": 25 cells of llama-tiny/chat, from {real}\n")
    assert json.loads(printed(folder, "export", run, "--format", "vllm-bench")) == json.loads(real.read_text())
    assert printed(folder, "export", run, "--format", "openmetrics", "--output", "perf.txt") == "perf.txt\n"
    assert 'hybrid_perf_value{case="llama-tiny/chat",' in (folder / "perf.txt").read_text()


# A bad model of the zoo is named by its file, which shows that the program runs this checkout's code.
BAD_INPUT = [
    (
        ["capacity", "nemotron-h-8b", "--tp", "5", "--cache-memory", "1GB"],
        f"{ZOO}/nemotron-h-8b.json: num_attention_heads",
    ),
    (["comment", "bad.json", "--dry-run"], "bad.json: not the results.json of a run"),
    (["cost", "bad.json"], "bad.json: "),
    (["data", "sharegpt", "--from", "bad.json", "--output-file", "x"], "bad.json: "),
    (["history", "add", "bad.json"], "bad.json: not the results.json of a run"),
    (["gpu", "--steps", "nope"], "--steps: no step is named 'nope'; there are record, compare, "),
    (["history", "show"], "perf_results/history.sqlite: no history is there"),
    (["history", "cost"], "perf_results/history.sqlite: no history is there"),
    (["history", "changes", "--store", "bad.json"], "bad.json: not a history that can be used: "),
    (["merge", "no-run"], "no-run/shard.json: cannot be read (No such file or directory); name the folder of a run "),
    (["night", "--device", "cpu", "--store", "bad.json"], "bad.json: not a history that can be used: "),
    (["isolation", "llama-9t"], "no model is named 'llama-9t'; the zoo has "),
    (["notify", "--dry-run"], "perf_results/history.sqlite: no history is there"),
    (["notify", "--dry-run", "--store", "bad.json"], "bad.json: not a history that can be used: "),
    (["plot", "bad.json"], "bad.json: not the results.json of a run"),
    (["published", "--baselines", "nowhere"], "nowhere/published: no published document is there"),
    (["log", "bad.json"], "bad.json: not the results.json of a run"),
    (["compare", "bad.json", "bad.json"], "bad.json: not the results.json of a run"),
    (["report", "bad.json"], "bad.json: not the results.json of a run"),
    (["report", "--store", "bad.json"], "bad.json: not a history that can be used: "),
    (["compare", "no-run", "bad.json"], "no-run: nothing to compare is there; "),
    (["import", "bad.json"], "bad.json: date: a time such as 20260131-235959 is needed, not nothing; "),
    (["export", "bad.json", "--format", "openmetrics"], "bad.json: not the results.json of a run"),
    (["overhead", "llama-9t"], "no model is named 'llama-9t'; the zoo has "),
]


@pytest.mark.parametrize(("words", "message"), BAD_INPUT)
def test_bad_input_is_one_line_that_names_it(folder: Path, words: list[str], message: str) -> None:
    (folder / "bad.json").write_text('{"model_type": "llama"}')
    done = perf(folder, *words)
    status = 3 if words[0] in ("night", "merge") else 2  # where 2 says that a night could not be measured
    assert (done.returncode, done.stdout) == (status, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"hybrid-perf: error: {message}")
    assert sorted(folder.iterdir()) == [folder / "bad.json"]


def test_a_bad_option_is_named_below_the_usage(folder: Path) -> None:
    done = perf(folder, "history", "changes", "--least", "0")
    assert (done.returncode, done.stdout) == (2, "")
    usage, *_, line = done.stderr.splitlines()
    assert usage.startswith("usage: hybrid-perf history changes ")
    assert line.startswith("hybrid-perf history changes: error: argument --least: '0' is no relative change above 0")


def test_the_main_job_imports_the_performance_tests_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--perf", "--perf-device=cpu", "--collect-only", "-q"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert files and all(file.startswith("tests/perf/") for file in files)
