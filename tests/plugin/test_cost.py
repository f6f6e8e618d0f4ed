"""What real runs say of their cost: their time is the sum of its parts, and what the budget left out is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.plugin.suite import Suite, unwrapped


def assert_sums_hold(run: dict[str, Any]) -> None:
    cost = run["cost"]
    parts = ("launching_seconds", "waiting_seconds", "other_seconds")
    assert run["seconds"] == cost["seconds"] == pytest.approx(sum(cost[part] for part in parts))
    launches = sum(record["seconds"] for record in run["launches"])
    for group in ("engines", "verdicts"):
        assert sum(one["seconds"] for one in cost[group]) == pytest.approx(launches)
    assert cost["gpu_seconds"] == 0


def test_what_the_budget_leaves_out_is_kept_and_told(suite: Suite) -> None:
    suite.add_model("steady")
    suite.add_model("other")
    suite.add_model("broken", arguments={"fail": {"on": "load", "how": "raise"}})
    assert suite.run("--update-baselines", "-k", "steady/ or other/").ret == 0
    suite.edit_baseline("steady", "steady/brief", "output_throughput", lambda value: value * 1.5)
    done = suite.run("--perf-budget=0.01s", "-v")
    run = suite.results()
    assert_sums_hold(run)
    cost = run["cost"]
    launched = {engine["engine"]: engine["launches"] for engine in cost["engines"]}
    assert launched == {"steady": 1, "other": 1, "broken": 1}
    assert {one["verdict"]: one["cells"] for one in cost["verdicts"]} == {
        "pass": 39, "inconclusive": 1, "failed-to-run": 20,
    }  # fmt: skip
    [left] = cost["left_out"]
    assert (left["engine"], left["cells"]) == ("steady", ["steady/brief-output_throughput"])
    assert left["launch_seconds"] == next(one["seconds"] for one in cost["engines"] if one["engine"] == "steady")
    assert left["seconds_left"] < 0, "the first launches are made whatever they take"
    unwrapped(done).fnmatch_lines(
        [
            "*- cost -*",
            "* of machine, 0 min of GPU (launches *, waiting for devices *, set-up and judging *)",
            "most: * in 1 launch, *; by verdict: pass *, failed-to-run *",
            "left out: steady, 1 undecided cell: a launch takes * and nothing of the budget was left; "
            "for one more launch of each: --perf-budget=*s",
            "engine *verdicts *launches *",
            "broken *20 failed-to-run *",
        ]
    )
    [summary] = [path for path in (suite.root / "perf_results").glob("*/summary.md") if "left out" in path.read_text()]
    assert "## cost" in summary.read_text()


def test_processes_that_share_a_device_wait_for_each_other_within_the_runs_time(suite: Suite) -> None:
    for name in ("one", "two", "three"):
        suite.add_model(name, arguments={"real_time": True, "step_ms": 20.0})
    assert suite.run("-n", "2").ret == 0
    run = suite.results()
    assert_sums_hold(run)
    waited = [record["waited"] for record in run["launches"]]
    assert max(waited) > 0.1, "they took turns"
    launches = sum(record["seconds"] for record in run["launches"])
    assert run["cost"]["launching_seconds"] == pytest.approx(launches, rel=0.01), "no two ran at once"
    assert run["cost"]["waiting_seconds"] < sum(waited) / 2, "others of this run held the device"
