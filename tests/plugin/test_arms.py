"""A/B and A/A comparisons through the plugin, on the no-op engine: real pairs of real processes."""

from __future__ import annotations

import json
import sys

import pytest

from tests.plugin.suite import Suite

EXACT = {"output_tokens", "model_bytes", "scheduler_steps", "kv_cache_bytes", "output_hash"}
MEMORY = {"peak_memory_bytes"}


@pytest.fixture
def noisy(suite: Suite) -> Suite:
    """A model whose launches vary by half a percent."""
    suite.add_model("noisy", arguments={"noise": 0.005})
    return suite


def test_equal_arms_have_no_slower_cell(noisy: Suite) -> None:
    result = noisy.run("--perf-aa")
    assert result.ret == 0
    assert "slower" not in noisy.verdicts().values()
    result.stdout.fnmatch_lines(["case*metric*arm a*arm b*change*verdict"])


def test_an_a_a_comparison_stores_the_noise_of_each_cell(noisy: Suite) -> None:
    for sessions in (1, 2):
        noisy.run("--perf-aa")
        [path] = (noisy.root / "perf_baselines").glob("*/noise.json")
        cell = json.loads(path.read_text())["cells"]["noisy/brief-median_itl_ms"]
        assert len(cell["sessions"]) == sessions
    assert cell["degrees"] == sum(len(session["log_ratios"]) - 1 for session in cell["sessions"])
    assert 0.0005 < cell["deviation"] < 0.05
    assert cell["mde"] > cell["deviation"]
    assert cell["false_positive_rate"] == 0
    path.write_text("{")
    broken = noisy.run("--perf-ab", "--perf-inject=5%")
    assert broken.ret == pytest.ExitCode.USAGE_ERROR
    broken.stderr.fnmatch_lines(["*noise.json: not a noise file*measure it anew with --perf-aa*"])


def test_an_injected_slow_down_of_one_arm_is_slower_and_exact_metrics_pass(noisy: Suite) -> None:
    result = noisy.run("--perf-ab", "--perf-inject=5%")
    assert result.ret == 1
    verdicts = {cell.rpartition("-")[2]: verdict for cell, verdict in noisy.verdicts().items()}
    assert {name for name, verdict in verdicts.items() if verdict == "pass"} == EXACT | MEMORY
    assert {verdict for name, verdict in verdicts.items() if name not in EXACT | MEMORY} == {"slower"}
    result.stdout.fnmatch_lines(["case * arm a * arm b *", "*output_throughput * tok/s * tok/s *slower"])
    pairs = noisy.results()["launches"]
    assert {pair["mode"] for pair in pairs} == {"live"}
    assert pairs[0]["arms"][0]["environment"].get("HYBRID_OPS_INJECT") is None
    assert pairs[0]["arms"][1]["environment"]["HYBRID_OPS_INJECT"] == "0.05"


def test_arms_may_differ_in_interpreter_variables_and_arguments(suite: Suite) -> None:
    suite.add_model("steady")
    interpreter = suite.root / "other-python"
    interpreter.symlink_to(sys.executable)
    result = suite.run(
        "--perf-ab", f"--perf-arm-b=python={interpreter}", "--perf-arm-b=env.A=1", "--perf-arm-b=arg.step_ms=1.0"
    )
    assert result.ret == 0
    arm = suite.results()["arms"][1]
    assert (arm["interpreter"], arm["environment"]) == (str(interpreter), {"A": "1"})
    assert arm["arguments"] == {"step_ms": 1.0}
    assert suite.verdicts()["steady/brief-output_throughput"] == "faster"


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ("arg.seed=42", "arm B does not differ: its interpreter, variables and engine arguments are arm A's"),
        ("env.NOOP_SPEED=2", "arm B does not differ: noop 1 does not read NOOP_SPEED; is there an engine argument*"),
    ],
)
def test_an_arm_that_is_the_same_to_the_engine_is_refused(suite: Suite, difference: str, reason: str) -> None:
    suite.add_model("steady")
    result = suite.run("--perf-ab", f"--perf-arm-b={difference}")
    assert result.ret == 1
    assert set(suite.verdicts().values()) == {"failed-to-run"}
    result.stdout.fnmatch_lines([f"*{reason}*"])
    assert len(suite.results()["launches"]) == 1, "one pair tells it"


def test_a_broken_arm_fails_its_testcases(suite: Suite) -> None:
    suite.add_model("steady")
    result = suite.run("--perf-ab", "--perf-arm-b=arg.fail={on: load, how: raise, message: no such kernel}")
    assert result.ret == 1
    assert set(suite.verdicts().values()) == {"failed-to-run"}
    result.stdout.fnmatch_lines(["*RuntimeError: no such kernel*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--perf-ab", "--perf-arm-b=speed"], "*--perf-arm-b: python=PATH, env.NAME=VALUE or arg.NAME=VALUE*"),
        (["--perf-arm-b=env.A=1"], "*--perf-arm-b: only with --perf-ab*"),
        (["--perf-aa", "--perf-inject=5%"], "*--perf-aa: both arms are the same*"),
        (["--perf-ab", "--update-baselines"], "*--update-baselines: record baselines in a plain run*"),
        (["--perf-ab", "--perf-inject=5%", "--perf-tolerance=two"], "*--perf-tolerance: a share such as 5%*"),
        (["--perf-ab"], "*--perf-ab: arm B does not differ: name a difference with --perf-arm-b or --perf-inject*"),
    ],
)
def test_a_bad_comparison_is_one_line(suite: Suite, arguments: list[str], message: str) -> None:
    suite.add_model("steady")
    result = suite.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
