"""From a run to its verdicts: updates, comparisons, failures, as a person at the terminal sees them."""

from __future__ import annotations

import multiprocessing
from xml.etree import ElementTree

import pytest

from tests.plugin.suite import Suite, unwrapped

CASE = "steady/brief"


@pytest.fixture
def recorded(suite: Suite) -> Suite:
    """A suite with one model whose baselines have just been recorded."""
    suite.add_model("steady")
    result = suite.run("--update-baselines")
    assert result.ret == 0, result.stdout.str()
    return suite


def test_without_a_baseline_cells_are_skipped_and_said_to_be_missing(suite: Suite) -> None:
    suite.add_model("steady")
    result = suite.run()
    assert result.ret == 0
    assert set(suite.verdicts().values()) == {"missing-baseline"}
    unwrapped(result).fnmatch_lines(["*20 cells have no baseline for cpu-*: record them with*--update-baselines*"])


def test_a_recorded_suite_compares_everything_and_passes(recorded: Suite) -> None:
    result = recorded.run()
    assert result.ret == 0
    assert set(recorded.verdicts().values()) == {"pass"}
    result.assert_outcomes(passed=20, deselected=result.parseoutcomes()["deselected"])


def test_a_slower_value_fails_its_own_testcase_with_both_numbers(recorded: Suite) -> None:
    recorded.edit_baseline("steady", CASE, "output_throughput", lambda value: value * 1.5)
    result = recorded.run()
    assert result.ret == 1
    verdicts = recorded.verdicts()
    assert verdicts.pop(f"{CASE}-output_throughput") == "slower"
    assert set(verdicts.values()) == {"pass"}
    result.stdout.fnmatch_lines(
        [
            "steady/brief  output_throughput  750 tok/s  500 tok/s  -33.3 %  slower",
            "slower: steady/brief-output_throughput: *",
        ]
    )
    assert "ERRORS" not in result.stdout.str() and "FAILURES" not in result.stdout.str()
    junit = ElementTree.parse("junit.xml")
    [failed] = [case for case in junit.iter("testcase") if case.find("failure") is not None]
    assert "500 tok/s now, 750 tok/s in the baseline" in failed.find("failure").get("message")
    [summary] = [path for path in (recorded.root / "perf_results").glob("*/summary.md") if "slower" in path.read_text()]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in summary.read_text().splitlines()]
    assert ["steady/brief", "output_throughput", "750 tok/s", "500 tok/s", "-33.3 %", "slower"] in rows
    properties = {item.get("name"): item.get("value") for item in failed.iter("property")}
    assert properties["verdict"] == "slower"
    assert float(properties["value"]) == pytest.approx(500)
    assert float(properties["baseline"]) == pytest.approx(750)
    assert {"unit", "tolerance", "device", "versions"} <= properties.keys()
    verbose = recorded.run("-v")
    verbose.stdout.fnmatch_lines(["*output_throughput: slower: 500 tok/s now, 750 tok/s in the baseline (-33.3 %)*"])


def test_a_lower_latency_baseline_is_slower_too(recorded: Suite) -> None:
    recorded.edit_baseline("steady", CASE, "median_itl_ms", lambda value: value / 1.5)
    assert recorded.run().ret == 1
    assert recorded.verdicts()[f"{CASE}-median_itl_ms"] == "slower"


def test_a_faster_value_passes_and_asks_to_be_recorded(recorded: Suite) -> None:
    recorded.edit_baseline("steady", CASE, "output_throughput", lambda value: value / 1.5)
    result = recorded.run()
    assert result.ret == 0
    assert recorded.verdicts()[f"{CASE}-output_throughput"] == "faster"
    result.stdout.fnmatch_lines(["faster: steady/brief-output_throughput: *", "*record it*"])


@pytest.mark.parametrize(
    ("metric", "change"), [("output_tokens", lambda v: v + 1), ("output_hash", lambda v: "ff" + v)]
)
def test_an_exact_metric_that_differs_is_changed(recorded: Suite, metric: str, change: object) -> None:
    recorded.edit_baseline("steady", CASE, metric, change)
    assert recorded.run().ret == 1
    verdicts = recorded.verdicts()
    assert verdicts.pop(f"{CASE}-{metric}") == "changed"
    assert set(verdicts.values()) == {"pass"}


def test_an_injected_slow_down_is_caught(recorded: Suite) -> None:
    result = recorded.run("--perf-inject=40%")
    assert result.ret == 1
    verdicts = recorded.verdicts()
    assert verdicts[f"{CASE}-output_throughput"] == "slower"
    assert verdicts[f"{CASE}-output_tokens"] == "pass"


def test_a_changed_workload_makes_its_baseline_not_comparable(recorded: Suite) -> None:
    file = recorded.root / "workloads.yaml"
    file.write_text(
        file.read_text().replace("prompt_tokens: 8, generation_tokens: 4}", "prompt_tokens: 8, generation_tokens: 5}")
    )
    result = recorded.run("-rs")
    assert set(recorded.verdicts().values()) == {"missing-baseline"}
    result.stdout.fnmatch_lines(["*was recorded for another definition of this case*"])


def test_known_failures(suite: Suite) -> None:
    failing = {"fail": {"on": "generate", "how": "raise", "message": "no such kernel"}}
    known = [{"platform": "cpu", "reason": "the kernel is missing", "matches": "no such kernel"}]
    other = [{"platform": "cpu", "reason": "the kernel is missing", "matches": "another error"}]
    suite.add_model("known", arguments=failing, expected_failures=known)
    suite.add_model("other", arguments=failing, expected_failures=other)
    suite.add_model("mended", expected_failures=known)
    result = suite.run()
    assert result.ret == 1
    by_model: dict[str, set[str]] = {}
    for cell, verdict in suite.verdicts().items():
        by_model.setdefault(cell.partition("/")[0], set()).add(verdict)
    assert by_model == {"known": {"expected-failure"}, "other": {"failed-to-run"}, "mended": {"unexpected-success"}}
    result.stdout.fnmatch_lines(["expected-failure: known/brief: the kernel is missing"])


def test_ratio_metrics_divide_by_the_reference_of_the_same_run(suite: Suite) -> None:
    suite.add_model("full")
    suite.add_model("hybrid", reference="full", arguments={"step_ms": 4.0})
    suite.models.pop("full")  # not selected: it is launched as the reference all the same
    assert suite.run().ret == 0
    [cell] = [cell for cell in suite.results()["cells"] if cell["metric"] == "relative_output_throughput"]
    assert cell["value"] == pytest.approx(0.5)


def test_times_on_reference_kernels_are_shown_but_not_judged(suite: Suite) -> None:
    suite.add_model("substitute", arguments={"reference_kernels": ["scan"]})
    suite.run("--update-baselines")
    recorded = "".join(path.read_text() for path in suite.baseline_files("substitute"))
    assert "output_tokens" in recorded and "output_throughput" not in recorded
    slow = suite.run("--perf-inject=40%")
    assert slow.ret == 0
    assert set(suite.verdicts().values()) == {"pass"}
    slow.stdout.fnmatch_lines(["substitute/brief*output_throughput*—*pass (reference kernels)"])
    noted = [item.get("value") for item in ElementTree.parse("junit.xml").iter("property")
             if item.get("name") == "reference_kernels"]  # fmt: skip
    assert noted == ['["scan"]'] * 20
    suite.edit_baseline("substitute", "substitute/brief", "output_tokens", lambda value: value + 1)
    assert suite.run().ret == 1


def test_gpu_testcases_skip_with_a_reason_or_fail_when_a_gpu_is_required(suite: Suite) -> None:
    suite.add_model("big", platforms=["cuda"])
    skipped = suite.run("-m", "gpu", "-rs")
    assert skipped.ret == 0
    skipped.stdout.fnmatch_lines(["*needs a GPU: *"])
    assert suite.run("-m", "gpu", "--perf-require-gpu").ret == 1
    quiet = suite.run()
    quiet.stdout.fnmatch_lines(["*GPU tests not run*"])


def test_performance_tests_are_not_run_without_the_option(suite: Suite) -> None:
    result = suite.pytest()
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["*performance tests not run: add --perf*"])
    assert not (suite.root / "perf_results").exists()


def test_options_have_their_own_group(suite: Suite) -> None:
    suite.pytest("--help").stdout.fnmatch_lines(["performance regression (hybrid-ops):", "*--perf *"])


@pytest.mark.parametrize(
    ("expires", "verdict", "status"), [("2999-01-01", "expected-failure", 0), ("2020-01-01", "slower", 1)]
)
def test_a_waived_regression_passes_until_the_waiver_expires(
    recorded: Suite, expires: str, verdict: str, status: int
) -> None:
    path = recorded.edit_baseline("steady", CASE, "output_throughput", lambda value: value * 1.5)
    waiver = f", waiver: {{owner: ops, reason: known, expires: {expires}}}}}"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line[:-1] + waiver if "output_throughput" in line else line for line in lines) + "\n")
    assert recorded.run().ret == status
    [cell] = [cell for cell in recorded.results()["cells"] if cell["metric"] == "output_throughput"]
    assert cell["verdict"] == verdict
    assert "ops" in cell["reason"]


def test_an_unfit_machine_is_measured_once_more_and_then_invalid(suite: Suite) -> None:
    suite.add_model("steady", arguments={"real_time": True, "step_ms": 60.0})
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=spin, daemon=True) for _ in range(2)]
    for other in others:
        other.start()
    try:
        result = suite.run("--perf-foreign-cpu=5%")
        document = suite.results()
        suite.run("--perf-foreign-cpu=5%", "-k", "steady/brief-output_tokens")
    finally:
        for other in others:
            other.kill()
    assert result.ret == 1
    assert len(suite.results()["launches"]) == 1, "what is exact is known on an unfit machine too"
    assert [launch["index"] for launch in document["launches"]] == [1, 2]
    verdicts = {cell["metric"]: cell["verdict"] for cell in document["cells"]}
    assert verdicts["output_throughput"] == verdicts["peak_memory_bytes"] == "invalid-environment"
    assert verdicts["output_tokens"] == verdicts["output_hash"] == "missing-baseline"
    assert document["launches"][0]["conditions"]["foreign_cpu_share"] > 0.05
    result.stdout.fnmatch_lines(["*The machine was not fit to measure: other*"])


def test_a_folder_that_pytest_takes_for_its_root_is_one_line(
    suite: Suite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    suite.add_model("steady")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    result = suite.run("--perf-results", str(elsewhere))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--perf-results {elsewhere}: *write --perf-results={elsewhere}"])
    assert suite.run(f"--perf-results={elsewhere}").ret == 0


def spin() -> None:
    while True:
        pass
