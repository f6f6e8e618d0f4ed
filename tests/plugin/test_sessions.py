"""Baselines of several sessions, and the noise that earlier runs have measured, in real runs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from tests.plugin.suite import Suite, unwrapped

CELL = "noisy/brief-output_throughput"


def cell(suite: Suite, name: str = CELL) -> dict:
    [found] = [one for one in suite.results()["cells"] if one["cell"] == name]
    return found


@pytest.fixture
def recorded(suite: Suite) -> Suite:
    """A suite whose engine is the same each time, with a baseline of one session."""
    suite.add_model("steady")
    assert suite.run("--update-baselines").ret == 0
    return suite


def test_a_further_session_is_added_and_what_is_exact_stays(recorded: Suite) -> None:
    exact = {path: path.read_text() for path in recorded.baseline_files("steady") if path.parent.name == "any"}
    result = recorded.run("--add-to-baselines")
    assert result.ret == 0, result.stdout.str()
    baseline = recorded.baseline("steady", "steady/brief", "output_throughput")
    assert baseline["sessions"] == [3, 3]
    assert baseline["launches"] == [500.0] * 6
    assert baseline["value"] == 500.0
    assert {path: path.read_text() for path in exact} == exact

    recorded.run("--add-to-baselines", "-k", "steady/brief-output_throughput")
    assert recorded.baseline("steady", "steady/brief", "output_throughput")["sessions"] == [3, 3, 3]
    compared = recorded.run()
    assert compared.ret == 0
    assert cell(recorded, "steady/brief-output_throughput")["baseline_sessions"] == [3, 3, 3]

    recorded.run("--update-baselines", "-k", "steady/brief-output_throughput")
    assert "sessions" not in recorded.baseline("steady", "steady/brief", "output_throughput")


def test_an_engine_that_became_slower_is_not_added(recorded: Suite) -> None:
    before = recorded.baseline("steady", "steady/brief", "output_throughput")
    result = recorded.run("--add-to-baselines", "--perf-inject=300%", "-k", "steady/brief-output_throughput")
    assert recorded.baseline("steady", "steady/brief", "output_throughput") == before
    unwrapped(result).fnmatch_lines(
        ["*steady/brief-output_throughput*slower than the baseline, so not the same engine*"]
    )


def test_another_version_is_not_added(recorded: Suite) -> None:
    for path in recorded.baseline_files("steady"):
        path.write_text(re.sub(r"noop: ['\"]?1['\"]?", "noop: '0'", path.read_text()))
    recorded.run("--add-to-baselines", "-k", "steady/brief-output_throughput")
    refused = recorded.results()["update"]["refused"]["steady/brief-output_throughput"]
    assert refused == "the baseline is of noop 0, this run of 1: record it anew with --update-baselines"


def test_sessions_that_do_not_make_the_launches_are_refused(recorded: Suite) -> None:
    recorded.edit_baseline("steady", "steady/brief", "output_throughput", lambda value: value, sessions=[2, 2])
    result = recorded.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*output_throughput*sessions must be numbers of launches that make 3 together*"])


def test_what_a_a_has_measured_reaches_the_judge_of_a_stored_baseline(suite: Suite) -> None:
    suite.add_model("noisy", arguments={"noise": 0.02})
    suite.run("--update-baselines", "-k", CELL)
    suite.run("-k", CELL)
    believed = cell(suite)["noise"]
    suite.run("--perf-aa", "-k", CELL)
    [path] = (suite.root / "perf_baselines").glob("*/noise.json")
    document = json.loads(path.read_text())
    [session] = document["cells"][CELL]["sessions"]
    assert len(session["launches"]) == len(session["log_ratios"])
    assert session["definition"] == cell(suite)["definition"]
    # A session that was much noisier, so that the difference is not one of chance.
    session["launches"] = [100.0, 200.0, 400.0, 100.0, 200.0, 400.0]
    path.write_text(json.dumps(document))
    suite.run("-k", CELL)
    assert cell(suite)["noise"] > 0.3 > 0.1 > believed


def test_nights_of_the_history_reach_the_judge(suite: Suite) -> None:
    suite.add_model("noisy", arguments={"noise": 0.02})
    suite.run("--update-baselines", "-k", CELL)
    missing = suite.run("--perf-history=history.sqlite", "-k", CELL)
    assert missing.ret == pytest.ExitCode.USAGE_ERROR
    missing.stderr.fnmatch_lines(["*history.sqlite: no history is there*"])

    suite.run("-k", CELL)
    before = cell(suite)["mde"]
    run = suite.results()
    [measured] = run["cells"]
    with History(suite.root / "history.sqlite", create=True) as history:
        for night in range(12):
            started = datetime(2026, 1, 1 + night, tzinfo=UTC).isoformat()
            moved = measured | {"value": 500.0 * (1.5 if night % 3 else 1.0), "baseline": 500.0}
            history.add(RunResults.model_validate(run | {"run_id": str(night), "started": started, "cells": [moved]}))
    suite.run("--perf-history=history.sqlite", "-k", CELL)
    assert cell(suite)["mde"] > 1.0 > before
