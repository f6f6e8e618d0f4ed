"""Broken engines and bad input: one clear line, in time, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.plugin.suite import Suite


def engine_processes(root: Path) -> list[psutil.Process]:
    """Engine processes that were started for the suite in `root`."""
    found = []
    for process in psutil.process_iter():
        try:
            if "noop_worker" in " ".join(process.cmdline()) and Path(process.cwd()).is_relative_to(root):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        ({"on": "load", "how": "raise", "message": "out of ideas"}, "*RuntimeError: out of ideas*"),
        ({"on": "load", "how": "hang"}, "*no answer to 'load' within 3 s; killed*"),
        ({"on": "load", "how": "die"}, "*the engine process died during 'load': killed by signal SIGKILL*"),
        ({"on": "generate", "how": "raise", "message": "out of ideas"}, "*RuntimeError: out of ideas*"),
        ({"on": "generate", "how": "hang"}, "*no answer to 'generate' within 2 s; killed*"),
        ({"on": "generate", "how": "die"}, "*the engine process died during 'generate': killed by signal SIGKILL*"),
    ],
    ids=lambda value: f"{value['how']} on {value['on']}" if isinstance(value, dict) else "",
)
def test_a_broken_engine_fails_its_own_testcases_only(suite: Suite, fail: dict[str, str], reason: str) -> None:
    suite.add_model("steady")
    suite.add_model("broken", arguments={"fail": fail})
    result = suite.run("--perf-deadline=2s", "--perf-stage-deadline=load=3s")
    assert result.ret == 1
    outcomes = result.parseoutcomes()
    assert (outcomes["errors"], outcomes["skipped"]) == (20, 20)
    result.stdout.fnmatch_lines([reason, "*engine log: */launches/broken/1/engine.log"])
    verdicts = suite.verdicts()
    assert {verdict for cell, verdict in verdicts.items() if cell.startswith("broken")} == {"failed-to-run"}
    assert engine_processes(suite.root) == []
    leftovers = [path for path in suite.root.rglob("*") if path.name == "site" or path.name.startswith(".results")]
    assert leftovers == []


@pytest.mark.parametrize("processes", [0, 2])
def test_an_interrupt_leaves_nothing_behind(suite: Suite, processes: int) -> None:
    suite.add_model("hung", arguments={"fail": {"on": "load", "how": "hang"}})
    command = [sys.executable, "-m", "pytest", *suite.arguments, *([f"-n{processes}"] if processes else [])]
    run = subprocess.Popen(
        command,
        cwd=suite.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # shells ignore it for background jobs
    )
    deadline = time.monotonic() + 60
    while not engine_processes(suite.root):
        assert time.monotonic() < deadline, "the engine was never started"
        assert run.poll() is None
    os.killpg(run.pid, signal.SIGINT)  # the whole foreground group, as Ctrl-C does
    run.communicate(timeout=60)
    assert run.returncode != 0
    while engine_processes(suite.root):
        assert time.monotonic() < deadline, "the engine outlived the run"
    assert not list((suite.root / "perf_results").glob("*/results.json"))


def test_a_killed_run_takes_its_engine_with_it(suite: Suite) -> None:
    suite.add_model("hung", arguments={"fail": {"on": "load", "how": "hang"}})
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *suite.arguments], cwd=suite.root, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not engine_processes(suite.root):
        assert time.monotonic() < deadline, "the engine was never started"
    run.send_signal(signal.SIGKILL)
    run.wait()
    while engine_processes(suite.root):
        assert time.monotonic() < deadline, "the engine outlived the run"


GOOD = """schema_version: 1
model: steady
device_class: any
cases:
  steady/brief:
    recorded: {run: r, date: 2026-01-01, device: d, versions: {}}
    definition: abc
    metrics:
      output_throughput: {value: 10.5, tolerance: 0.1, launches: [10.5]}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cases:", "cases: [", "any/steady.yaml:*: not valid YAML: *"),
        ("output_throughput", "output_thruput", "*.metrics: unknown metric 'output_thruput'*"),
        ("10.5,", ".nan,", "*brief.metrics.output_throughput.value*finite*"),
        ("tolerance: 0.1", "tolerance: -0.1", "*output_throughput.tolerance: *greater than or equal to 0*"),
        ("schema_version: 1", "schema_version: 7", "*schema_version: this release reads version 1, the file says 7"),
        ("    definition: abc", "    definition: abc\n    definition: def", "any/steady.yaml:8: *duplicate key*"),
        ("  steady/brief:", "  other/brief:", "*cases.other/brief: the case belongs to another model's file*"),
        ("value: 10.5", "value: 0", "*output_throughput must be a number above 0, not 0*"),
        ("value: 10.5", "valu: 10.5", "any/steady.yaml: *output_throughput.value: Field required*"),
    ],
)  # fmt: skip
def test_a_bad_baseline_is_one_line_and_is_left_as_it_was(suite: Suite, old: str, new: str, message: str) -> None:
    suite.add_model("steady")
    path = suite.root / "perf_baselines" / "any" / "steady.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(GOOD.replace(old, new, 1))
    before = path.read_bytes()
    result = suite.run("--update-baselines")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: */perf_baselines/{message}" if message.startswith("any") else f"ERROR: {message}"]
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--perf-suite=nightly"], "*no suite is named 'nightly'; --perf-suite takes quick, standard, full*"),
        (["--perf-results=config.json"], "*config.json: the results folder cannot be written*"),
        (["--perf-models=missing.yaml"], "*missing.yaml: cannot be read*"),
        (["--perf-budget=soon"], "*--perf-budget: a time such as 90s, 15m or 2h, not 'soon'*"),
        (["--perf-inject=fast"], "*--perf-inject: a share such as 5%, not 'fast'*"),
        (["--perf-launches=0"], "*--perf-launches: at least 1, not 0*"),
        (["--perf-baselines=config.json"], "*config.json: not a folder*"),
        (
            ["--perf-stage-deadline=boot=1m"],
            "*--perf-stage-deadline: STAGE=TIME with load, compile, capture, download, not 'boot=1m'",
        ),
        (["--perf-stage-deadline=load=soon"], "*--perf-stage-deadline load: a time such as 90s, 15m or 2h, not 'soon'"),
    ],
)
def test_a_bad_option_is_one_line(suite: Suite, arguments: list[str], message: str) -> None:
    suite.add_model("steady")
    result = suite.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0].startswith("ERROR: ")
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"config": "nowhere.json"}, "*zoo.yaml: models.steady.config: no such file: *nowhere.json"),
        ({"reference": "ghost"}, "*zoo.yaml: models.steady.reference: no model is named 'ghost'"),
        ({"engine": "steam"}, "*zoo.yaml: models.steady.engine: *'steam'*"),
        ({"colour": "red"}, "*zoo.yaml: models.steady.colour: Extra inputs are not permitted*"),
    ],
)
def test_a_bad_zoo_entry_is_one_line(suite: Suite, entry: dict[str, str], message: str) -> None:
    suite.add_model("steady", **entry)
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
