"""The three-way comparison through the plugin, on the no-op engine: its cells, claims and settings."""

from __future__ import annotations

import pytest

from tests.plugin.comparison import ComparisonSuite
from tests.plugin.suite import Suite

HYBRID = "toy-hybrid@three/input-16-of-32"


@pytest.fixture
def compared(suite: Suite) -> ComparisonSuite:
    return ComparisonSuite(suite)


def test_each_configuration_has_its_metrics_and_the_hybrid_its_ratios(compared: ComparisonSuite) -> None:
    result = compared.run("--perf-launches=1")
    assert result.ret == 0
    values = compared.values()
    cases = {cell.rpartition("-")[0] for cell in values}
    assert cases == {
        f"toy-{attention}@three/input-{length}-of-{2 * length}"
        for attention in ("full", "sliding", "hybrid")
        for length in (16, 32, 64)
    }
    # 2 prompts of 16 tokens and 4 generated ones each, in 4 steps of 1 ms; blocks of 16 tokens and 4096 bytes
    assert values[f"{HYBRID}-total_token_throughput"] == pytest.approx(2 * (16 + 4) / 4e-3)
    assert values[f"{HYBRID}-request_throughput"] == pytest.approx(2 / 4e-3)
    assert [values[f"{HYBRID}-{name}_e2el_ms"] for name in ("mean", "median", "p90", "p99")] == pytest.approx([4] * 4)
    assert values[f"{HYBRID}-kv_cache_bytes"] == 2 * 4096
    assert values[f"{HYBRID}-kv_cache_bytes_per_request"] == 4096
    assert values[f"{HYBRID}-kv_cache_memory_bytes"] == 1000 * 4096
    assert values[f"{HYBRID}-throughput_per_gib"] == pytest.approx(10_000 / ((1_000_000 + 8192) / 2**30))
    assert values[f"{HYBRID}-kv_cache_bytes_over_full"] == 1 / 2
    assert values[f"{HYBRID}-total_token_throughput_over_full"] == pytest.approx(2)
    assert values[f"{HYBRID}-total_token_throughput_over_sliding"] == pytest.approx(1)
    assert values[f"{HYBRID}-p99_e2el_over_sliding"] == pytest.approx(1)
    assert not [cell for cell in values if "_over_" in cell and not cell.startswith("toy-hybrid")]
    result.stdout.fnmatch_lines(
        [
            "Configuration          Input Len    Throughput      Avg Latency",
            "-----*",
            "Full Attention         16 (of 32)   5000.0 tok/s    8.0 ms",
            "Hybrid (SSM+SW)        64 (of 128)  34000.0 tok/s   4.0 ms",
        ]
    )


def test_a_claim_holds_or_does_not_or_is_hidden_by_noise(compared: ComparisonSuite) -> None:
    compared.set_engine("sliding", step_ms=0.9, window=16)  # the hybrid has 90 % of its throughput: on the bound
    result = compared.run("--perf-launches=2")
    assert result.ret == 0  # a claim that does not hold fails no testcase
    outcomes = compared.outcomes()
    assert outcomes["kv_cache_bytes_over_full"] == {16: "holds", 32: "holds", 64: "holds"}
    assert outcomes["total_token_throughput_over_full"] == {64: "holds"}
    assert outcomes["total_token_throughput_over_sliding"] == {16: "undecided"}
    [undecided] = [claim for claim in compared.suite.results()["claims"] if claim["outcome"] == "undecided"][:1]
    low, high = undecided["interval"]
    assert low < 0.9 < high
    assert len(undecided["launches"]) == 2  # its sides were launched again for its sake
    result.stdout.fnmatch_lines(
        ["UNDECIDED: throughput is comparable*", "    input 16: 0.900 (0.* to 1.*, 2 launches)*"]
    )

    compared.set_engine("hybrid", step_ms=4.0)  # slow, and it keeps everything
    assert compared.run("--perf-launches=2").ret == 0
    outcomes = compared.outcomes()
    assert set(outcomes["kv_cache_bytes_over_full"].values()) == {"does not hold"}
    assert outcomes["total_token_throughput_over_full"] == {64: "does not hold"}
    assert outcomes["total_token_throughput_over_sliding"] == {16: "does not hold"}
    assert set(outcomes["p99_e2el_over_sliding"].values()) == {"does not hold"}
    summary = max((compared.root / "perf_results").glob("*/summary.md")).read_text()
    assert "| throughput is above full attention's on long inputs" in summary
    assert "does not hold" in summary


def test_a_failed_configuration_leaves_its_claims_unmeasured(compared: ComparisonSuite) -> None:
    compared.set_engine("full", fail={"on": "load", "how": "raise", "message": "no such kernel"})
    result = compared.run("--perf-launches=1")
    assert result.ret == 1
    outcomes = compared.outcomes()
    assert set(outcomes["kv_cache_bytes_over_full"].values()) == {"not measured"}
    assert set(outcomes["p99_e2el_over_sliding"].values()) == {"undecided"}  # one launch is not enough
    result.stdout.fnmatch_lines(["comparison: no files: toy: no results of the configuration full"])


@pytest.mark.long
def test_every_parameter_can_be_set_and_other_baselines_then_do_not_apply(compared: ComparisonSuite) -> None:
    assert compared.run("--update-baselines").ret == 0
    settings = ["prompt_tokens=16,40", "num_prompts=3", "generation_tokens=5", "warmup_iterations=0",
                "timed_iterations=45", "seed=1", "arg.gpu_memory_utilization=0.8", "arg.dtype=float32",
                "config.sliding_window=8"]  # fmt: skip
    result = compared.run("--perf-launches=1", *(f"--perf-set={setting}" for setting in settings))
    assert result.ret == 0
    document = compared.suite.results()
    assert {cell["case"].partition("/")[2] for cell in document["cells"]} == {"input-16", "input-40"}
    parameters = document["comparisons"]["toy-hybrid@three/input-40"]
    assert (parameters["num_prompts"], parameters["generation_tokens"], parameters["seed"]) == (3, 5, 1)
    [full] = [launch for launch in document["launches"] if launch["engine"] == "toy-full@three"]
    assert full["arguments"]["gpu_memory_utilization"] == 0.8
    assert full["arguments"]["dtype"] == "float32"
    seen = full["cases"]["toy-full@three/input-16"]
    assert (len(seen["warmup"]), len(seen["iterations"])) == (0, 45)  # more than a launch takes of itself
    assert compared.values()["toy-full@three/input-16-output_tokens"] == 3 * 5
    folder = compared.root / "perf_results" / document["run_id"] / "launches"
    windows = {path.parts[-4]: path.read_text() for path in folder.glob("*/1/model/config.json")}
    assert '"sliding_window": 8' in windows["toy-hybrid@three"]
    assert '"sliding_window": null' in windows["toy-full@three"]  # it has no window to set

    changed = compared.run("--perf-launches=1", "--perf-set=seed=1")
    assert changed.ret == 0
    verdicts = compared.suite.verdicts()
    assert set(verdicts.values()) == {"missing-baseline"}
    reasons = {cell["reason"] for cell in compared.suite.results()["cells"]}
    assert all("recorded for another definition of this case" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["num_prmpts=3"], "*no workload of the suite quick has a field 'num_prmpts'; there are deadline_seconds, *"),
        (["num_prompts=many"], "*--perf-set: num_prompts: *valid integer* (given: 'many')"),
        (["config.slidng_window=3"], "*config.slidng_window: no model of the suite quick has it in its config.json"),
        (["prompt_tokens=16", "model=nowhere"], "*nowhere: no such file, and no such model in the zoo *"),
    ],
)
def test_a_bad_setting_is_one_line(compared: ComparisonSuite, arguments: list[str], message: str) -> None:
    result = compared.run(*(f"--perf-set={argument}" for argument in arguments))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert len(result.stderr.lines) <= 2
