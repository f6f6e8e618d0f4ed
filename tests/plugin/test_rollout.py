"""The rollout suite through the plugin, on the no-op engine with the configuration of a real model."""

from __future__ import annotations

import json

import pytest

from hybrid_ops.models.configs import find_config
from tests.plugin.suite import Suite

WORKLOADS = """
schema_version: 1
rollouts:
  roll: {description: small, prompt_tokens: 64, generation_tokens: [128, 8000], num_prompts: 2, samples: 3}
suites:
  quick: [roll]
"""


@pytest.fixture
def rollouts(suite: Suite) -> Suite:
    (suite.root / "llama.json").write_text(find_config("llama-tiny").read_text())
    (suite.root / "workloads.yaml").write_text(WORKLOADS)
    suite.add_model("accounted", config="llama.json", arguments={"step_ms": 1.0})
    suite.know_peaks()
    return suite


def run(suite: Suite, *arguments: str) -> pytest.RunResult:
    options = [option for option in suite.arguments if "accounted" not in option and option != "-k"]
    return suite.pytest(*options, "-k", "accounted", *arguments)


def test_lengths_are_scaled_visibly_and_shown_as_the_published_table(rollouts: Suite) -> None:
    result = run(rollouts)
    assert result.ret == 0
    cells = {cell["cell"]: cell["value"] for cell in rollouts.results()["cells"]}
    short, long = "accounted@roll/roll-64-of-128", "accounted@roll/roll-4000-of-8000"  # a context of 4096 tokens
    assert cells[f"{short}-output_tokens"] == 2 * 3 * 64
    assert cells[f"{long}-output_tokens"] == 2 * 3 * 4000
    assert cells[f"{short}-output_throughput"] == pytest.approx(2 * 3 / 1e-3)
    [launch] = rollouts.results()["launches"]
    assert launch["arguments"]["enable_prefix_caching"] is True
    assert launch["arguments"]["max_model_len"] == 4032
    table = [line for line in result.outlines if line.startswith("|")]
    assert "Gen Length" in table[0] and "Tokens/s" in table[0]
    assert [cell.strip() for cell in table[2].split("|")][1:3] == ["64 (of 128)", "0.06"]
    assert f"{cells[f'{long}-mfu']:.2f}" in table[3]
    [written] = (rollouts.root / "perf_results").glob("*/rollout.md")
    assert "\n".join(table) in written.read_text()


def test_prompts_may_come_from_a_file(rollouts: Suite) -> None:
    (rollouts.root / "prompts.json").write_text(json.dumps(["first prompt", "second"]))
    result = run(rollouts, "--perf-prompts=prompts.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["### accounted@roll: 2 prompts of at most 32 tokens × 3 samples, given prompts"])
    failed = run(rollouts, "--perf-prompts=nowhere.json")
    assert failed.ret == pytest.ExitCode.USAGE_ERROR
    failed.stderr.fnmatch_lines(["ERROR: --perf-prompts: nowhere.json: no such file*"])
