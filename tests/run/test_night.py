"""Each exit status of a night, by a real run of the installed command on the no-op engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import read_results
from tests.plugin.suite import Suite

PROGRAM = Path(sys.executable).with_name("hybrid-perf")
HUNG = {"fail": {"on": "load", "how": "hang"}}
SECONDS = 120


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Suite:
    made = Suite(pytester)
    made.add_model("steady")
    return made


def command(suite: Suite, *words: str, device: str = "cpu", pytest_arguments: tuple[str, ...] = ()) -> list[str]:
    own = ["--device", device, "--no-serving", *words]
    return [str(PROGRAM), "night", *own, "--", *suite.arguments, "--perf-launches=3", *pytest_arguments]


def night(suite: Suite, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A night, as it is typed; it may never show a traceback."""
    done = subprocess.run(
        command(suite, *words, **options), cwd=suite.root, capture_output=True, text=True, timeout=SECONDS
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def verdicts_of(suite: Suite) -> list[list[str]]:
    """The verdicts of each cell in the history, oldest first."""
    with History(suite.root / "perf_results" / "history.sqlite") as history:
        return [[point.verdict for point in history.points(series)] for series in history.series()]


def test_a_night_without_anything_to_say_is_0(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    page = suite.root / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    for _ in range(2):
        done = night(suite)
        assert done.returncode == 0, done.stdout
    [first, newest] = sorted((suite.root / "perf_results").glob("*/"))
    assert f"since {first.name}: nothing that is recorded differs" in done.stdout.splitlines()
    cost, last = done.stdout.splitlines()[-2:]
    assert last == f"night: 0, fine: 20 cells; perf_results/{newest.name}/summary.md"
    pytest.LineMatcher([cost]).fnmatch_lines(["cost: * of machine, 0 min of GPU; most: steady * in 1 launch"])
    assert {path.name for path in newest.iterdir()} >= {"results.json", "summary.md", "junit.xml"}
    assert page.read_text().count("# Performance: ") == 2
    assert all(len(verdicts) == 2 for verdicts in verdicts_of(suite))


def test_a_serving_load_is_a_second_run_of_the_same_night(suite: Suite) -> None:
    workloads = (suite.root / "workloads.yaml").read_text()
    (suite.root / "workloads.yaml").write_text(workloads + "  serving: [brief, wide]\n")
    words = ["--device", "cpu", "--serving", "steady/wide", "--budget", "1h", "--", *suite.arguments]
    done = subprocess.run([PROGRAM, "night", *words], cwd=suite.root, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0
    first, second = (path.name for path in sorted((suite.root / "perf_results").glob("*/")))
    assert second == f"{first}-serving"
    budgets = [read_results(suite.root / "perf_results" / name).cost.budget_seconds for name in (first, second)]
    assert 3500 < budgets[1] < budgets[0] == 3600, "the second run has what the first has left"
    summaries = "; ".join(f"perf_results/{name}/summary.md" for name in (first, second))
    assert last_line(done) == f"night: 0, fine: 40 cells; {summaries}"
    with History(suite.root / "perf_results" / "history.sqlite") as history:
        assert {series.case for series in history.series()} == {"steady/brief", "steady/wide"}


def test_a_regression_is_1_until_it_is_accepted(suite: Suite) -> None:
    assert suite.run("--update-baselines").ret == 0
    suite.edit_baseline("steady", "steady/brief", "output_tokens", lambda value: value + 1)

    done = night(suite)
    assert done.returncode == 1
    assert last_line(done).startswith("night: 1, a regression: 1 cell changed (steady/brief); perf_results/")
    assert suite.run("--update-baselines").ret == 0
    assert night(suite).returncode == 0


def test_a_measured_regression_is_1_though_another_engine_did_not_run(suite: Suite) -> None:
    assert suite.run("--update-baselines").ret == 0
    suite.edit_baseline("steady", "steady/brief", "output_tokens", lambda value: value + 1)
    suite.add_model("killed", arguments={"fail": {"on": "generate", "how": "die"}})
    done = night(suite)
    assert done.returncode == 1
    assert "a regression: 1 cell changed (steady/brief); " in last_line(done)
    assert "could not be measured: 20 cells failed-to-run (killed/brief); perf_results/" in last_line(done)


def test_a_killed_worker_is_2_and_leaves_a_gap(suite: Suite) -> None:
    assert night(suite).returncode == 0
    suite.add_model("steady", arguments={"fail": {"on": "generate", "how": "die"}})
    done = night(suite)
    assert done.returncode == 2
    assert last_line(done).startswith("night: 2, could not be measured: 20 cells failed-to-run (steady/brief); ")
    shown = subprocess.run(
        [PROGRAM, "history", "show", "--metric", "output_tokens"], cwd=suite.root, capture_output=True, text=True
    ).stdout
    _, *points = shown.splitlines()
    assert [point.split()[2:4] for point in points] == [["4", "missing-baseline"], ["-", "failed-to-run"]]


def test_no_gpu_where_one_is_required_is_2(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = night(suite, device="cuda")
    assert done.returncode == 2
    [line] = done.stdout.splitlines()
    assert line.startswith("night: 2, could not be measured: full: no GPU: ")


def test_nothing_selected_is_2(suite: Suite) -> None:
    done = night(suite, pytest_arguments=("-k", "nobody"))
    assert (done.returncode, last_line(done)) == (2, "night: 2, could not be measured: standard: nothing was selected")


def engines_in(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if "noop_worker" in " ".join(process.cmdline()) and Path(process.cwd()).is_relative_to(root):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.parametrize(
    "whole_group",
    [pytest.param(True, id="ctrl-c"), pytest.param(False, id="the night alone", marks=pytest.mark.long)],
)
def test_an_interrupted_night_is_2_and_leaves_nothing_behind(suite: Suite, whole_group: bool) -> None:
    assert night(suite).returncode == 0
    suite.add_model("steady", arguments=HUNG)
    run = subprocess.Popen(
        command(suite),
        cwd=suite.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # shells ignore it for background jobs
    )
    deadline = time.monotonic() + SECONDS
    while not engines_in(suite.root):
        assert time.monotonic() < deadline and run.poll() is None
    started = psutil.Process(run.pid).children(recursive=True)
    (os.killpg if whole_group else os.kill)(run.pid, signal.SIGINT)
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 2
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "night: 2, could not be measured: standard: interrupted"
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert {tuple(verdicts) for verdicts in verdicts_of(suite)} == {("missing-baseline", "not recorded")}


def test_a_killed_pytest_is_2(suite: Suite) -> None:
    suite.add_model("steady", arguments=HUNG)
    run = subprocess.Popen(command(suite), cwd=suite.root, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + SECONDS
    while not engines_in(suite.root):
        assert time.monotonic() < deadline and run.poll() is None
    [child] = psutil.Process(run.pid).children()
    child.kill()
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 2
    assert said.splitlines()[-1] == "night: 2, could not be measured: standard: pytest was killed by SIGKILL"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("store_is_elsewhere", [True, False])
def test_a_full_disk_for_results_is_2_and_one_line(suite: Suite, small_disk: Path, store_is_elsewhere: bool) -> None:
    store = ["--store", "history.sqlite"] if store_is_elsewhere else []
    if not store_is_elsewhere:
        (small_disk / "filler").write_bytes(b"x" * 60 * 1024)
    done = night(suite, "--results", str(small_disk), *store)
    assert done.returncode == 2, done.stdout
    if store_is_elsewhere:
        assert "results cannot be written (No space left on device); the run has none" in done.stdout + done.stderr
        assert last_line(done) == "night: 2, could not be measured: standard: pytest was interrupted"
    else:
        reason = f"{small_disk}/history.sqlite: the history cannot be written: database or disk is full"
        assert done.stdout == f"night: 2, could not be measured: {reason}\n"


def break_zoo(suite: Suite) -> None:
    (suite.root / "zoo.yaml").write_text("schema_version: 1\nmodels: [")


def break_baseline(suite: Suite) -> None:
    path = suite.root / "perf_baselines" / "any" / "steady.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("schema_version: 1\ncases: [")


@pytest.mark.parametrize(
    ("broken", "message"),
    [(break_zoo, "*zoo.yaml:*: not valid YAML: *"), (break_baseline, "*/any/steady.yaml:*: not valid YAML: *")],
)
def test_broken_yaml_is_3(suite: Suite, broken: Any, message: str) -> None:
    broken(suite)
    done = night(suite)
    assert (done.returncode, last_line(done)) == (
        3,
        "night: 3, bad input: standard: pytest refused it, for the reason above",
    )
    [line] = [line for line in done.stderr.splitlines() if line]
    pytest.LineMatcher([line]).fnmatch_lines([f"ERROR: {message}"])
    assert verdicts_of(suite) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--suite", "nightly"], "ERROR: *no suite is named 'nightly'; --perf-suite takes quick, standard, full"),
        (["--store", "zoo.yaml"], "hybrid-perf: error: zoo.yaml: not a history that can be used: *"),
        (["--device", "abacus"], "hybrid-perf night: error: argument --device: invalid choice: 'abacus' *"),
        (["--budget", "0h"], "hybrid-perf: error: --budget: a time such as 90s, 15m or 2h, not '0h'"),
        (["--newest"], "hybrid-perf night: error: unrecognized arguments: --newest"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_words_are_3(suite: Suite, words: list[str], line: str) -> None:
    done = night(suite, *words)
    assert done.returncode == 3
    pytest.LineMatcher(done.stderr.rstrip().splitlines()[-1:]).fnmatch_lines([line])


def test_a_budget_is_given_once(suite: Suite) -> None:
    done = night(suite, "--budget", "1h", pytest_arguments=("--perf-budget=5m",))
    assert done.returncode == 3
    assert done.stderr.endswith("error: --budget: shares its time among the runs; leave --perf-budget out behind --\n")


def test_a_run_id_names_a_new_folder(suite: Suite) -> None:
    assert suite.run("--perf-run-id=monday").ret == 0
    assert (suite.root / "perf_results" / "monday" / "results.json").is_file()
    for name, message in (("monday", "*monday: a run has this folder already; *"), ("../x", "*--perf-run-id: *'../x'")):
        again = suite.run(f"--perf-run-id={name}")
        assert again.ret == pytest.ExitCode.USAGE_ERROR
        again.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_a_platform_without_a_device_is_one_line(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refused = suite.run("--perf-device=cuda")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: --perf-device cuda: no GPU: *"])
