"""What a reader sees: each cause once, commands that work, colours and a live line on a terminal alone."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.plugin.suite import Suite

WIDTH = 100
BROKEN = {"fail": {"on": "load", "how": "raise", "message": "no such weights"}}
OWN_TEST = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

@pytest.mark.perf
def test_own(generation_cell):
    assert generation_cell.metric != "output_tokens", "a check of my own"
"""


@pytest.fixture
def night(suite: Suite) -> Suite:
    """Two models with baselines of which one is now slower and differs, one that does not load, and its follower."""
    suite.pytester._monkeypatch.setenv("COLUMNS", str(WIDTH))
    suite.add_model("steady")
    suite.add_model("slow")
    suite.run("--update-baselines")
    for metric, factor in (("output_throughput", 1.5), ("decode_throughput", 1.5), ("median_itl_ms", 1 / 1.5)):
        suite.edit_baseline("slow", "slow/brief", metric, lambda value, factor=factor: value * factor)
    suite.edit_baseline("slow", "slow/brief", "output_tokens", lambda value: value + 1)
    suite.add_model("broken", arguments=BROKEN)
    suite.add_model("follower", reference="broken")
    return suite


def report_of(lines: list[str]) -> list[str]:
    """The lines of the performance report."""
    start = next(place for place, line in enumerate(lines) if line.strip("=").strip() == "performance")
    return lines[start + 1 : -1]


def commands(lines: list[str], what: str) -> list[str]:
    """The commands of one kind, as a person copies them."""
    found = []
    for place, line in enumerate(lines):
        if line.strip().startswith(f"{what}:"):
            copied = [line.strip().removeprefix(f"{what}:").strip()]
            if not copied[0]:
                copied = [lines[place + 1]]
                while copied[-1].endswith("\\"):
                    copied.append(lines[place + 1 + len(copied)])
            found.append("\n".join(copied))
    return found


def give(suite: Suite, command: str) -> subprocess.CompletedProcess[str]:
    """Give a command to a shell, which finds this interpreter's pytest."""
    script = f'pytest() {{ "{sys.executable}" -m pytest "$@"; }}\n{command}'
    return subprocess.run(["bash", "-c", script], cwd=suite.root, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.long)])
def test_each_cause_is_explained_once_and_junit_keeps_every_message(night: Suite, processes: int) -> None:
    result = night.run(*([f"-n{processes}"] if processes else []))
    assert result.ret == 1
    outcomes = result.parseoutcomes()
    assert (outcomes["errors"], outcomes["failed"]) == (21, 4), "pytest counts them all the same"
    text = result.stdout.str()
    for own in ("= ERRORS =", "= FAILURES =", "short test summary info", "ERROR at setup"):
        assert own not in text
    lines = report_of(result.outlines)
    # A path is copied whole, and that of these tests' temporary folder is long.
    assert max(len(line) for line in lines if "--basetemp" not in line) <= WIDTH
    told = "\n".join(lines)
    assert told.count("RuntimeError: no such weights") == 1
    heads = [line for line in lines if re.match(r"(slower|changed|failed-to-run): ", line)]
    assert re.match(r"slower: slow/brief-\w+ \(and 2 more of slow\): ", heads[0])
    assert heads[1].startswith("changed: slow/brief-output_tokens: ")
    assert heads[2:] == ["failed-to-run: broken/brief, follower/brief: RuntimeError: no such weights"]
    assert "    engine log: perf_results/" in told
    messages = [
        problem.get("message") or problem.text
        for case in ElementTree.parse(night.root / "junit.xml").iter("testcase")
        for problem in (*case.findall("failure"), *case.findall("error"))
    ]
    assert len(messages) == 25
    assert sum("no such weights" in (message or "") for message in messages) == 21


@pytest.mark.long
def test_the_commands_work(night: Suite) -> None:
    lines = report_of(night.run("--perf-launches=6").outlines)
    again, accept = commands(lines, "measure again"), commands(lines, "accept, if it is intended")
    assert len(again) == 3 and len(accept) == 2
    done = give(night, again[0])
    assert done.returncode == 1, done.stdout + done.stderr
    found = night.verdicts()
    assert {cell.partition("/")[0] for cell in found} == {"slow"}
    assert found["slow/brief-output_throughput"] == "slower"
    done = give(night, accept[0])
    assert done.returncode == 0, done.stdout + done.stderr
    assert give(night, again[0]).returncode == 0
    assert set(night.verdicts().values()) == {"pass"}


def test_testcases_that_were_not_measured_are_counted_with_the_reason(suite: Suite) -> None:
    suite.add_model("big", platforms=["cuda"])
    skipped = suite.run("-m", "gpu")
    assert skipped.ret == 0
    skipped.stdout.re_match_lines([r"\d+ performance tests skipped: needs a GPU: .+"])
    required = suite.run("-m", "gpu", "--perf-require-gpu")
    assert required.ret == 1
    required.stdout.re_match_lines([r"\d+ performance tests failed: needs a GPU: .+"])
    assert required.stdout.str().count("--perf-require-gpu was given") == 1
    assert "ERROR at setup" not in required.stdout.str()


def test_what_the_report_does_not_explain_pytest_still_shows(suite: Suite) -> None:
    suite.pytester.makepyfile(test_suite=OWN_TEST)
    suite.add_model("steady")
    suite.add_model("broken", arguments=BROKEN)
    result = suite.run()
    result.stdout.fnmatch_lines(
        ["*= FAILURES =*", "*a check of my own*", "FAILED *test_own?steady/brief-output_tokens?*"]
    )
    assert result.stdout.str().count("test_own[") == 2, "in its section and in the short summary"


def on_a_terminal(suite: Suite, *arguments: str) -> str:
    """What a run writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    for name in ("CI", "PY_COLORS"):  # pytester asks for no colours
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", *suite.arguments, *arguments]
    run = subprocess.Popen(command, cwd=suite.root, stdout=theirs, stderr=theirs, env=environment, close_fds=True)
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        written += read
    os.close(ours)
    run.wait(timeout=60)
    return written.decode()


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.long)])
def test_on_a_terminal_progress_is_one_live_line_and_verdicts_have_colours(suite: Suite, processes: int) -> None:
    suite.add_model("steady", arguments={"real_time": True, "step_ms": 20.0})
    suite.add_model("broken", arguments=BROKEN)
    arguments = [f"-n{processes}"] if processes else []
    text = on_a_terminal(suite, *arguments)
    assert re.search(r"\r\[round 1: \d done, \d left, [a-z0-9 .]+\] \w+: ", text)
    assert "broken: failed: RuntimeError: no such weights\r\n" in text
    assert re.search(r"\x1b\[31mfailed-to-run: broken", text)
    plain = suite.run(*arguments).stdout.str()
    assert "\x1b" not in plain and "\r" not in plain
    assert re.search(r"^\[round 1: \d done, \d left, about \d+ s\] \w+: loading$", plain, re.MULTILINE), "as last time"


def files_of(suite: Suite) -> list[Path]:
    return sorted(max((suite.root / "perf_results").glob("*/plots")).iterdir())


def test_a_run_leaves_the_plots_that_it_has_data_for(suite: Suite) -> None:
    suite.add_model("steady")
    suite.add_model("other", arguments={"step_ms": 3.0})
    result = suite.run("--perf-launches=1")
    result.stdout.fnmatch_lines(["plots: perf_results/*/plots"])
    names: list[Any] = [path.name for path in files_of(suite)]
    assert "by_model.png" in names


def test_a_model_that_the_suite_leaves_out_is_named_with_the_suite_that_has_it(suite: Suite) -> None:
    suite.add_model("steady")
    suite.add_model("patient", not_in_suites=["quick"])
    result = suite.pytest(*suite.arguments, "--collect-only", "-q")
    lines = [line for line in result.outlines if "patient" in line]
    assert lines == ["the suite quick leaves out patient; --perf-suite standard or full has it"]
    assert any("steady/brief" in line for line in result.outlines)
    result = suite.pytest(*suite.arguments, "--collect-only", "-q", "--perf-suite=full")
    assert any("patient/wide" in line for line in result.outlines)
    assert "leaves out" not in result.stdout.str()
