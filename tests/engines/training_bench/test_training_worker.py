"""The training worker as a real process: its steps agree with float64, and planted errors do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_ops.engines.protocol import LOAD, TRAIN, TrainingSample
from hybrid_ops.engines.training import Training
from hybrid_ops.engines.training_bench.plan import LOSS_BOUNDS, NORM_BOUNDS
from hybrid_ops.engines.worker import Worker, WorkerError
from tests.engines.training_bench.plans import model_folder, plan

FAULTY = Path(__file__).with_name("faulty_worker.py")
HYBRIDS = ("llama-tiny", "nemotron-h-tiny", "falcon-h1-tiny", "olmo-hybrid-tiny", "qwen3-next-tiny")
PATIENCE = 120


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One process for many plans."""
    with Worker(Training.worker, tmp_path_factory.mktemp("launch")) as worker:
        yield worker


def train(worker: Worker, tmp_path: Path, model: str = "llama-tiny", arguments=None, **changes) -> TrainingSample:
    """Load a model with engine arguments and make one timed step of a plan."""
    worker.ask(LOAD, PATIENCE, model=model_folder(tmp_path / model, model), arguments=arguments or {})
    return worker.ask(TRAIN, PATIENCE, plan=plan(**changes))


@pytest.mark.parametrize("model", HYBRIDS)
def test_the_first_steps_are_those_of_float64(worker: Worker, tmp_path: Path, model: str) -> None:
    seen = train(worker, tmp_path, model)
    assert seen.refusal is None
    assert seen.loss_error is not None and seen.loss_error <= LOSS_BOUNDS["float32"] / 5
    assert seen.gradient_norm_error is not None and seen.gradient_norm_error <= NORM_BOUNDS["float32"]
    assert len(seen.losses) == len(seen.gradient_norms) == 2
    assert min(seen.forward_seconds, seen.backward_seconds, seen.optimizer_seconds) > 0


def test_memory_is_told_by_part(worker: Worker, tmp_path: Path) -> None:
    seen = train(worker, tmp_path)
    weights = 2 * 1024 * 256 + 4 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 512 + 2 * 256) + 256
    frequencies = 2 * 32  # the rotary embedding's, and their copy
    assert seen.memory.weights == 4 * (weights + frequencies)
    assert seen.memory.gradients == 4 * weights
    counters = 4 * (4 * 9 + 3)  # how many steps AdamW has made, for each parameter
    assert seen.memory.optimizer == 8 * weights + counters
    longest = seen.memory.activations
    logits = 2 * 32 * 1024 * 4
    assert longest > 2 * logits
    held = seen.memory.weights + seen.memory.optimizer
    assert held + longest < seen.memory.peak + seen.memory.gradients
    assert seen.memory.peak < held + longest + 2 * seen.memory.gradients
    sgd = train(worker, tmp_path, optimizer="sgd")
    assert sgd.memory.optimizer == 0 and sgd.refusal is None


@pytest.mark.parametrize("fault", ["detached-gradient", "dropped-mask", "halved-learning-rate"])
def test_a_planted_error_is_refused(tmp_path: Path, fault: str) -> None:
    with Worker(FAULTY, tmp_path / "launch", environment={"FAULT": fault}) as worker:
        seen = train(worker, tmp_path)
    assert seen.refusal is not None
    step = "step 2" if fault == "halved-learning-rate" else "step 1"
    what = "gradient norm" if fault == "detached-gradient" else "loss"
    assert seen.refusal.startswith(f"the {what} of {step} is ")
    assert "is allowed in float32" in seen.refusal


def test_bad_arguments_and_plans_are_named(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="ValueError: arguments: dtype: expected device, compile, "):
        train(worker, tmp_path, arguments={"dtype": "float32"})
    with pytest.raises(WorkerError, match="batch: 3 sequences cannot be divided over accumulation 1 × 2 processes"):
        train(worker, tmp_path, arguments={"processes": 2}, batch=3)
