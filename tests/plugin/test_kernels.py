"""Kernels in real runs: cells, JUnit, tables and a plot; a wrong kernel, a known failure, a slow contender."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.measure.procedures.kernels import Kernels
from hybrid_ops.measure.records import CaseRecord, LaunchRecord
from hybrid_ops.regression.baselines import Baselines
from hybrid_ops.regression.cells import Cell, CellResult, judge_cells
from hybrid_ops.regression.judge import Settings
from hybrid_ops.regression.learnt import LearntNoise
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.run.options import SuiteOptions
from hybrid_ops.run.plan import SuitePlan
from tests.plugin.suite import Suite

SHAPE = {
    "model_type": "layers", "batch": 1, "tokens": 192, "heads": 2, "head_size": 16, "window": 64, "state_size": 4,
    "prefix": 64, "documents": 2, "dtype": "float32",
}  # fmt: skip
WORKLOADS = """
schema_version: 1
kernels:
  window: {kernel: sliding_window, description: a window, contenders: [causal FA2, F.sdpa + mask]}
  conv: {kernel: convolution, description: a convolution, contenders: [F.conv1d], timed_iterations: 5}
suites:
  quick: [window, conv]
  convolution: [conv]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_cell(cell):
    check(cell)
"""


BRIEF = """
pytest_plugins = ["hybrid_ops.plugin"]

def pytest_configure(config):
    from hybrid_ops.measure import pair
    from hybrid_ops.run import trial

    # Fewer rounds than noise that is to be told from five percent would need.
    pair.LIVE_SECONDS = trial.FIRST_LOOK_SECONDS = trial.CLOSER_LOOK_SECONDS = 0.0
"""


@pytest.fixture
def kernels(suite: Suite) -> Suite:
    suite.pytester.makeconftest(BRIEF)
    suite.pytester.makepyfile(test_suite=TEST_FILE)
    (suite.root / "config.json").write_text(json.dumps(SHAPE))
    (suite.root / "workloads.yaml").write_text(WORKLOADS)
    suite.add_model("bench", engine="layers")
    return suite


def test_a_run_prints_the_tables_and_leaves_junit_and_a_plot(kernels: Suite) -> None:
    result = kernels.run("--perf-launches=1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "Using the default sparsity block size: 128",
            "║ *Sliding Window 64 *║",
            "Correctness check passed ✅",
            "| Operation     |   FW Time (ms) |   FW FLOPS (TF/s) |   BW Time (ms) |   BW FLOPS (TF/s) |",
            "| causal FA2 *",
            "| F.sdpa + mask *",
            "| ours *",
            "Block Mask:",
            "BlockMask(shape=(1, 1, 192, 192), sparsity=25.00%,",
            "░░",
            "░░░░",
            "causal FA2 computes something else: a yardstick",
            "║ *Causal Convolution *║",
        ]
    )
    cells = {cell["cell"]: cell for cell in kernels.results()["cells"]}
    sparsity = cells["bench/window-block_sparsity"]
    assert (sparsity["value"], sparsity["kind"]) == (25.0, "exact")
    share = cells["bench/window-backward_matmul_share@f_sdpa_mask"]
    assert (share["kind"], share["direction"]) == ("ratio", "higher") and share["value"] > 0
    assert cells["bench/conv-forward_peak_bytes@ours"]["value"] >= 192 * 32 * 4
    assert "bench/window-forward_ms@flexattention" not in cells, "the workload does not name it"
    [run] = (kernels.root / "perf_results").iterdir()
    assert (run / "plots" / "kernels.png").stat().st_size > 10_000
    names = {case.get("name") for case in ElementTree.parse(kernels.root / "junit.xml").getroot().iter("testcase")}
    assert {f"test_cell[{cell}]" for cell in cells} <= names


@pytest.mark.long
def test_a_slow_contender_is_found_by_two_arms_and_the_others_are_not(kernels: Suite) -> None:
    arm = "--perf-arm-b=arg.slow={F.conv1d: 9.0}"
    cells = "bench/conv and forward_ms and f_conv1d"
    result = kernels.run("--perf-suite=convolution", "--perf-ab", arm, "-k", cells)
    assert result.ret == 1
    assert kernels.verdicts() == {"bench/conv-forward_ms@f_conv1d": "slower"}
    for pair in kernels.results()["launches"]:
        ratios = pair["log_ratios"]["bench/conv"]
        assert ratios["backward_ms@f_conv1d"] > abs(ratios["backward_ms@ours"])


def test_bad_input_names_the_workload_and_its_field(kernels: Suite) -> None:
    (kernels.root / "workloads.yaml").write_text(WORKLOADS.replace("[F.conv1d]", "[cutlass]"))
    result = kernels.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: kernels.conv.contenders: convolution has no contender 'cutlass'; there are ours, F.conv1d, *"]
    )


def judged(tmp_path: Path, values: dict[str, Any], absent: dict[str, str]) -> dict[str, CellResult]:
    """The cells of FlexAttention in the shipped causal kernel, as one launch leaves them."""
    cells: list[Cell] = [
        cell
        for cell in SuitePlan(SuiteOptions(suite="kernels", platform="cpu")).cells()
        if cell.case.id == "reference-layers/causal" and cell.metric.name.endswith("@flexattention")
    ]
    record = LaunchRecord(
        launch_name="reference-layers", index=1, started="", seconds=1.0, log="", device={}, arguments={},
        environment={}, cases={"reference-layers/causal": CaseRecord(values, absent=absent)},
    )  # fmt: skip
    launches = {"reference-layers": [record]}
    baselines = Baselines(tmp_path, cpu())
    results = judge_cells(cells, launches, baselines, Settings.for_platform("cpu"), False, LearntNoise())
    return {result.metric: result for result in results}


REFUSAL = "NotImplementedError: FlexAttention does not support backward on CPU. Please set the input requires_grad"


def test_a_known_failure_of_one_contender_is_expected_and_another_is_not(tmp_path: Path) -> None:
    seen = judged(
        tmp_path,
        {"forward_tflops@flexattention": 1.0},
        {"backward_ms@flexattention": REFUSAL, "forward_ms@flexattention": "its relative error is 1 in output"},
    )
    if not seen:
        pytest.skip("torch.compile has no compiler here")
    backward = seen["backward_ms@flexattention"]
    assert backward.verdict is Verdict.EXPECTED_FAILURE
    assert backward.reason == "FlexAttention has no backward pass on a processor"
    forward = seen["forward_ms@flexattention"]
    assert (forward.verdict, forward.reason) == (Verdict.FAILED_TO_RUN, "its relative error is 1 in output")
    assert seen["forward_tflops@flexattention"].verdict is Verdict.MISSING_BASELINE
    other = judged(tmp_path, {"forward_ms@flexattention": 1.0}, {"backward_ms@flexattention": "OutOfMemoryError: no"})
    assert other["backward_ms@flexattention"].verdict is Verdict.FAILED_TO_RUN


def test_a_known_failure_that_works_is_an_unexpected_success(tmp_path: Path) -> None:
    seen = judged(tmp_path, {"backward_ms@flexattention": 1.0, "forward_ms@flexattention": 1.0}, {})
    if not seen:
        pytest.skip("torch.compile has no compiler here")
    assert seen["backward_ms@flexattention"].verdict is Verdict.UNEXPECTED_SUCCESS
    assert seen["forward_ms@flexattention"].verdict is Verdict.MISSING_BASELINE


def test_a_refused_contender_is_absent_with_its_reason_in_every_metric() -> None:
    plan = SuitePlan(SuiteOptions(suite="kernels", platform="cpu"))
    case = next(cell.case for cell in plan.cells() if cell.case.id == "reference-layers/convolution")
    reason = "its relative error is 1 in output, tokens 0 to 15 (of 300)"
    shared = {"round_ms": 2.0, "forward_refusal@f_conv1d": reason}
    iterations = [{**shared, "forward_ms@ours": milliseconds} for milliseconds in (1.0, 3.0, 2.0)]
    summary = Kernels().summarize(case, iterations)
    assert summary.values == {"round_ms": 2.0, "forward_ms@ours": 2.0}
    assert set(summary.absent) == {
        f"forward_{what}@f_conv1d" for what in ("ms", "tflops", "matmul_share", "peak_bytes")
    }
    assert set(summary.absent.values()) == {reason}
