"""Which launches of a run live at once: exact cells side by side on cores of their own, timed ones alone."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import cpu, placed_class
from tests.plugin.suite import Suite, unwrapped

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
CLASS = placed_class(cpu().device_class, "cpu", 1)


def launches(suite: Suite) -> list[dict[str, Any]]:
    return suite.results()["launches"]


def span(launch: dict[str, Any]) -> tuple[float, float]:
    begin = datetime.fromisoformat(launch["started"]).timestamp()
    return begin, begin + launch["seconds"]


def pair(suite: Suite, **arguments: Any) -> None:
    for name in ("one", "two"):
        suite.add_model(name, arguments=arguments)


def test_exact_cells_of_one_core_engines_are_measured_side_by_side(suite: Suite, tmp_path: Path) -> None:
    """Both engines wait for each other while they load, so one after the other would never do."""
    pair(suite, meets={"folder": str(tmp_path / "meeting"), "engines": 2})
    run = suite.run(
        "-n2", "--perf-set=cores=1", "--perf-stage-deadline=load=60s", "-k", "(one/ or two/) and output_tokens"
    )
    assert run.ret == 0, run.stdout.str()
    first, second = launches(suite)
    assert {first["device"]["device_class"], second["device"]["device_class"]} == {CLASS}
    assert first["device"]["cores"] != second["device"]["cores"]
    assert {launch["environment"]["OMP_NUM_THREADS"] for launch in (first, second)} == {"1"}


def test_timed_cells_are_measured_alone_unless_neighbours_do_not_disturb(suite: Suite, tmp_path: Path) -> None:
    pair(suite)
    assert suite.run("-n2", "--perf-set=cores=1", "--perf-launches=1").ret == 0
    (begin, end), (other_begin, other_end) = map(span, launches(suite))
    assert end <= other_begin or other_end <= begin, "two timed launches at once"

    isolation = suite.root / "perf_baselines" / CLASS / "isolation.json"
    isolation.parent.mkdir(parents=True)
    isolation.write_text(json.dumps({"schema": 1, "undisturbed": True}))
    pair(suite, meets={"folder": str(tmp_path / "meeting"), "engines": 2})
    run = suite.run("-n2", "--perf-set=cores=1", "--perf-launches=1", "--perf-stage-deadline=load=60s")
    assert run.ret == 0, run.stdout.str()

    isolation.write_text("{}")
    broken = suite.run("--perf-set=cores=1")
    assert broken.ret == pytest.ExitCode.USAGE_ERROR
    assert "isolation.json: not an isolation file (KeyError('schema')): remove it, or run hybrid-perf isolation" in (
        broken.stderr.str()
    )


def test_times_of_an_engine_on_one_core_have_baselines_of_their_own(suite: Suite) -> None:
    """What is exact holds for any number of cores; a time holds for its own alone."""
    suite.add_model("one")
    assert suite.run("--update-baselines").ret == 0
    assert suite.run("--perf-set=cores=1", "--perf-launches=1").ret == 0
    verdicts = suite.verdicts()
    assert (verdicts["one/brief-output_tokens"], verdicts["one/brief-kv_cache_bytes"]) == ("pass", "pass")
    assert verdicts["one/brief-output_throughput"] == "missing-baseline"
    assert suite.run("--perf-set=cores=1", "--update-baselines").ret == 0
    assert (suite.root / "perf_baselines" / CLASS / "one.yaml").exists()
    assert suite.run("--perf-set=cores=1", "--perf-launches=1").ret == 0
    assert suite.verdicts()["one/brief-output_throughput"] == "pass"


ROLLOUTS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
rollouts:
  rollout: {description: a batch, prompt_tokens: 8, generation_tokens: [4], num_prompts: 4, samples: 2}
probes:
  cache: {kind: cache, description: blocks, lengths: [16]}
configurations:
  pair: {cores: 1, replicas: 2}
  ranks: {cores: 1, arguments: {tensor_parallel_size: 2}}
suites:
  quick: [rollout@pair, rollout@ranks, rollout, cache@pair]
"""


def test_replicas_and_ranks_stand_side_by_side_in_the_rollout_table(suite: Suite) -> None:
    (suite.root / "workloads.yaml").write_text(ROLLOUTS)
    suite.add_model("solo")
    run = suite.run("--perf-launches=1", "-k", "solo")
    assert run.ret == 0, run.stdout.str()
    every = len(os.sched_getaffinity(0))
    unwrapped(run).fnmatch_lines_random(
        [
            "### solo@rollout-pair: 4 prompts * × 2 samples, drawn tokens, on 2 engines, 2 cores in all",
            "### solo@rollout-ranks: * drawn tokens, on 2 ranks, 2 cores in all",
            "### solo@rollout: 4 prompts of at most 8 tokens × 2 samples, drawn tokens",
        ]
    )
    found = {launch["engine"]: launch for launch in launches(suite)}
    assert set(found) == {"solo@rollout-pair", "solo@rollout-ranks", "solo@rollout"}, "a probe asks one engine"
    two = placed_class(cpu().device_class, "cpu", 2)
    assert {name: launch["device"]["device_class"] for name, launch in found.items()} == {
        "solo@rollout-pair": two,
        "solo@rollout-ranks": two,
        "solo@rollout": cpu().device_class,
    }
    assert two.endswith(f"-2of{every}c")
    bound = found["solo@rollout-ranks"]["environment"]["VLLM_CPU_OMP_THREADS_BIND"]
    assert len(set(bound.split("|"))) == 2, "each rank has a core of its own"
    assert found["solo@rollout-pair"]["facts"]["model_bytes"] == 2 * found["solo@rollout"]["facts"]["model_bytes"]


def test_a_configuration_asks_for_cores_and_too_many_are_skipped_with_both_numbers(suite: Suite) -> None:
    text = (suite.root / "workloads.yaml").read_text()
    there = len(os.sched_getaffinity(0))
    (suite.root / "workloads.yaml").write_text(
        text.replace("quick: [brief]", "quick: [brief@bound, brief@many]")
        + f"configurations:\n  bound: {{cores: 1}}\n  many: {{cores: {there + 1}}}\n"
    )
    suite.add_model("solo")
    run = suite.run("-rs", "--perf-launches=1", "-k", "solo")
    assert run.ret == 0, run.stdout.str()
    assert {launch["engine"] for launch in launches(suite)} == {"solo@bound"}
    unwrapped(run).fnmatch_lines(
        [f"*solo@many does not fit: it asks for {there + 1} cores, and this machine has {there}*"]
    )
    assert suite.run("--perf-set=cores=none").errlines == [
        "ERROR: --perf-set: cores: how many cores each engine on the CPU is bound to, not 'none'",
        "",
    ]
