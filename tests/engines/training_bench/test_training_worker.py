"""The training worker as a real process: its steps agree with float64, and planted errors do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hybrid_ops.engines.protocol import LOAD, TRAIN, TrainingSample
from hybrid_ops.engines.training import Training
from hybrid_ops.engines.training_bench.plan import LOSS_BOUNDS, NORM_BOUNDS
from hybrid_ops.engines.worker import Worker, WorkerError
from tests.engines.training_bench.plans import model_folder, plan

FAULTY = Path(__file__).with_name("faulty_worker.py")
SLOWEST = "nemotron-h-tiny"
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


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[pytest.mark.long] if name == SLOWEST else []) for name in HYBRIDS]
)
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


@pytest.mark.long
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


@pytest.mark.long
def test_checkpointing_and_parts_change_no_loss_and_spare_activations(worker: Worker, tmp_path: Path) -> None:
    plain = train(worker, tmp_path, batch=4)
    spared = train(worker, tmp_path, arguments={"gradient_checkpointing": True}, batch=4)
    parts = train(worker, tmp_path, batch=4, accumulation=2)
    for other in (spared, parts):
        assert other.refusal is None
        assert other.losses == pytest.approx(plain.losses, rel=1e-6)
        assert other.memory.activations < 0.8 * plain.memory.activations
    assert plain.flops is not None and spared.flops is not None
    assert plain.flops < spared.flops < 4 / 3 * plain.flops + 1, "the forward pass of the layers is computed again"


@pytest.mark.long
def test_two_processes_have_the_losses_of_one_and_end_with_it(tmp_path: Path) -> None:
    with Worker(Training.worker, tmp_path / "launch") as worker:
        one = train(worker, tmp_path, batch=4)
        two = train(worker, tmp_path, arguments={"processes": 2}, batch=4)
        others = children(worker.process.pid)
        train(worker, tmp_path)
        left = children(worker.process.pid)
    assert two.refusal is None
    assert two.losses == pytest.approx(one.losses, rel=1e-6)
    assert two.gradient_norms == pytest.approx(one.gradient_norms, rel=1e-5)
    assert one.flops is not None and two.flops == one.flops // 2
    assert len(others) == 1 and left == []


def children(process: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    return [child.pid for child in psutil.Process(process).children()]


@pytest.mark.long
def test_bfloat16_with_master_weights_agrees_within_its_bound(worker: Worker, tmp_path: Path) -> None:
    mixed = train(worker, tmp_path, precision="bfloat16-mixed", batch=1, tokens=16)
    exact = train(worker, tmp_path, batch=1, tokens=16)
    pure = train(worker, tmp_path, precision="bfloat16", batch=1, tokens=16)
    assert mixed.refusal is pure.refusal is None
    assert mixed.losses != exact.losses and mixed.losses == pytest.approx(exact.losses, rel=LOSS_BOUNDS["bfloat16"])
    assert mixed.memory.weights == exact.memory.weights
    assert pure.memory.gradients == exact.memory.gradients // 2


@pytest.mark.long
def test_too_little_memory_is_told_in_bytes_and_leaves_nothing(tmp_path: Path) -> None:
    with Worker(Training.worker, tmp_path / "launch") as worker:
        before = train(worker, tmp_path, arguments={"memory_bytes": 900_000_000})
        resident = psutil.Process(worker.process.pid).memory_info().rss
        found = r"OutOfMemoryError: out of memory: (\d+) bytes more were asked for beside \d+ bytes held"
        with pytest.raises(WorkerError, match=found):
            worker.ask(TRAIN, PATIENCE, plan=plan(batch=64, tokens=4096))
        after = worker.ask(TRAIN, PATIENCE, plan=plan())
        assert psutil.Process(worker.process.pid).memory_info().rss < resident + 50_000_000
    assert after.losses == before.losses


@pytest.mark.long
def test_compiled_steps_are_those_of_float64(tmp_path: Path) -> None:
    with Worker(Training.worker, tmp_path / "launch") as worker:
        seen = train(worker, tmp_path, arguments={"compile": True})
    assert seen.refusal is None and seen.flops is None
