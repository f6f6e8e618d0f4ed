"""Training steps in real runs: cells, tables and a projection; planted errors, a slow arm and too little memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.engines.training_bench.plans import ZOO
from tests.plugin.suite import Suite, unwrapped
from tests.plugin.test_kernels import BRIEF, TEST_FILE

FAULTY = Path(__file__).parents[1] / "engines" / "training_bench" / "faulty_worker.py"
WITH_FAULTS = f"""
    from pathlib import Path

    from hybrid_ops.engines.training import Training

    Training.worker = Path({str(FAULTY)!r})
"""
WORKLOADS = """
schema_version: 1
training:
  tune: &tune
    description: a small step
    batch: 2
    tokens: 32
    precision: float32
    trajectory_steps: 2
    reference: false
    timed_iterations: 2
    dataset: {examples: 1000, epochs: 2}
  checked: {<<: *tune, reference: true}
  packed: {<<: *tune, reference: true, documents: 3}
  huge: {<<: *tune, batch: 64, tokens: 2048}
configurations:
  tight: {arguments: {memory_bytes: 400000000}}
suites:
  quick: [tune]
  checked: [checked]
  all: [tune, packed, tiny/huge@tight, tiny/tune@tight]
"""
SMALL = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 256, "head_dim": 16}


@pytest.fixture
def training(suite: Suite) -> Suite:
    suite.pytester.makeconftest(BRIEF + WITH_FAULTS)
    suite.pytester.makepyfile(test_suite=TEST_FILE)
    config = json.loads((ZOO / "llama-tiny.json").read_text())
    (suite.root / "config.json").write_text(json.dumps({**config, **SMALL, "num_hidden_layers": 2}))
    shutil.copy(ZOO / "nemotron-h-tiny.json", suite.root / "nemotron.json")
    (suite.root / "workloads.yaml").write_text(WORKLOADS)
    suite.add_model("tiny", engine="training")
    return suite


@pytest.mark.long
def test_a_run_tells_times_memory_and_projection_and_what_it_refuses(training: Suite) -> None:
    training.add_model("mamba", engine="training", config="nemotron.json")
    result = training.run("--perf-launches=1", "--perf-suite=all", "-k", "tiny or mamba")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "  step * step ms  forward  backward  optimizer  tok/s *MFU  loss off*",
            "tiny/tune",
            "  2 × 32 float32 adamw *",
            "case * weights *gradients *optimizer *activations *peak *accounted least",
        ]
    )
    unwrapped(result).fnmatch_lines(
        ["tiny/tune: 1000 examples × 32 tokens × 2 epochs = 0.064 M tokens; / * tok/s / 3600 = * h, at a peak of * MiB"]
    )
    cells = {cell["cell"]: cell for cell in training.results()["cells"]}
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert cells["tiny/tune-gradient_bytes"]["value"] == 4 * (2 * 256 * 64 + 2 * layer + 64)
    assert 0 < cells["tiny/tune-training_mfu"]["value"] < 100
    assert len(cells["tiny/tune-loss_trajectory"]["value"].split()) == 2
    # Packed documents: attention keeps them apart, the torch code of Mamba-2 does not.
    assert cells["tiny/packed-step_ms"]["verdict"] == "missing-baseline"
    for metric in ("step_ms", "loss_trajectory"):
        assert cells[f"mamba/packed-{metric}"]["verdict"] == "expected-failure"
    assert cells["mamba/packed-weight_bytes"]["verdict"] == "missing-baseline"
    # Too little memory is that case's verdict, with the bytes; the next case of the same process runs.
    failed = cells["tiny@tight/huge-step_ms"]
    assert failed["verdict"] == "failed-to-run"
    asked = failed["reason"].partition("OutOfMemoryError: out of memory: ")[2].split()[0]
    assert int(asked) >= 64 * 2048 * 64 * 4
    assert cells["tiny@tight/tune-step_ms"]["verdict"] == "missing-baseline"


@pytest.mark.long
def test_what_is_not_float64s_has_no_time(training: Suite) -> None:
    training.pytester._monkeypatch.setenv("FAULT", "detached-gradient")
    assert training.run("--perf-launches=1", "--perf-suite=checked").ret == 1
    cells = {cell["metric"]: cell for cell in training.results()["cells"]}
    for metric in ("step_ms", "training_throughput", "training_mfu", "loss_trajectory"):
        assert cells[metric]["verdict"] == "failed-to-run"
        assert cells[metric]["reason"].startswith("the gradient norm of step 1 is ")
    assert cells["weight_bytes"]["verdict"] == "missing-baseline"


@pytest.mark.long
def test_the_recorded_trajectory_catches_planted_errors(training: Suite) -> None:
    assert training.run("--update-baselines", "--perf-launches=1").ret == 0
    trajectory = training.baseline("tiny", "tiny/tune", "loss_trajectory")["value"]
    nearly = " ".join(f"{float(number) * (1 + 5e-5):.7g}" for number in trajectory.split())
    training.edit_baseline("tiny", "tiny/tune", "loss_trajectory", lambda value: nearly)
    assert training.run("--perf-launches=1", "-k", "trajectory").ret == 0
    assert set(training.verdicts().values()) == {"pass"}
    for fault in ("detached-gradient", "dropped-mask", "halved-learning-rate"):
        training.pytester._monkeypatch.setenv("FAULT", fault)
        assert training.run("--perf-launches=1", "-k", "trajectory").ret == 1
        assert training.verdicts()["tiny/tune-loss_trajectory"] == "changed", fault


@pytest.mark.long
def test_an_injected_slowness_is_found_by_two_arms(training: Suite) -> None:
    result = training.run("--perf-ab", "--perf-inject=100%", "--perf-launches=6", "-k", "step_ms or loss_trajectory")
    assert result.ret == 1
    assert training.verdicts() == {"tiny/tune-step_ms": "slower", "tiny/tune-loss_trajectory": "pass"}
