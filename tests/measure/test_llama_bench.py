"""What an iteration of llama-bench counts as, on a fake program in a real worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.protocol import LOAD
from hybrid_ops.engines.registry import find_engine
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.worker import Worker
from hybrid_ops.errors import InputError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.procedures.llama_bench import LlamaBenchTests, WholeGenerations
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.models.zoo import ModelEntry, load_zoo
from hybrid_ops.report.llama_bench import pooled
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.batch import ClosedBatch
from hybrid_ops.workloads.llama_bench import LlamaBenchTest
from hybrid_ops.workloads.sampling import Sampling

FAKE = Path(__file__).parents[1] / "engines" / "fake_llama_bench.py"
ENGINE = find_engine("llama-bench", "test")
PROMPT = LlamaBenchTest(description="a prompt", prompt_tokens=32, repetitions=3)
BATCH = ClosedBatch(description="a batch", prompt_tokens=8, generation_tokens=4)


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    entry = ModelEntry(architecture="any", gguf="model.gguf", engine="llama-bench", source=tmp_path / "zoo.yaml")
    return EngineSpec("file", entry, "cpu", ENGINE, weights="gguf")


def cases(procedure: Procedure, definition: Definition, spec: EngineSpec) -> list[Case]:
    asked = Asked("file", spec.entry, "it", definition, lambda **more: spec, Path(), None)
    return procedure.cases(asked)


def iterate(procedure: Procedure, definition: Definition, spec: EngineSpec, folder: Path, **environment: str) -> Any:
    """(values, stretches that were timed) of one iteration."""
    [case] = cases(procedure, definition, spec)
    with Worker(ENGINE.worker, folder, environment={"HYBRID_OPS_LLAMA_BENCH": str(FAKE), **environment}) as worker:
        facts = worker.ask(LOAD, 30, **ENGINE.load_request(spec, folder, 30))
        iteration = Iteration(case, worker, facts, folder, 30)
        values: Mapping[str, Value] = procedure.iterate(iteration)
    return values, iteration.timed


def test_a_test_has_its_rate_and_times_its_samples_alone(spec: EngineSpec, tmp_path: Path) -> None:
    values, timed = iterate(LlamaBenchTests(), PROMPT, spec, tmp_path, FAKE_LLAMA_BENCH_RATE="1000")
    rates = [1000 / (1 + 0.01 * number) for number in range(3)]
    assert values["tokens_per_second"] == pytest.approx(sum(rates) / 3, rel=1e-6)
    assert (values["tokens"], values["repetitions"], values["model_parameters"]) == (96, 3, 1_000_000)
    assert [end - begin for begin, end in timed] == pytest.approx([0.032, 0.03232, 0.03264], rel=1e-4)


def test_a_closed_batch_has_the_throughput_of_the_whole(spec: EngineSpec, tmp_path: Path) -> None:
    values, _ = iterate(WholeGenerations(), BATCH, spec, tmp_path, FAKE_LLAMA_BENCH_RATE="1000")
    assert values == {"output_throughput": pytest.approx(4 / 0.012), "output_tokens": 4}


@pytest.mark.parametrize(
    "change", [{"num_prompts": 2}, {"samples": 2}, {"sampling": Sampling(temperature=1.0)}, {"given_prompts": [[1]]}]
)
def test_what_llama_bench_cannot_be_asked_is_no_case(spec: EngineSpec, change: dict[str, Any]) -> None:
    assert cases(WholeGenerations(), BATCH, spec)
    assert cases(WholeGenerations(), BATCH.model_copy(update=change), spec) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [("other", "llama-bench ran -p 33 -n 0 -d 0, not -p 32 -n 0 -d 0"), ("short", "for 3 repetitions")],
)
def test_what_is_no_measurement_is_refused(spec: EngineSpec, tmp_path: Path, fault: str, message: str) -> None:
    with pytest.raises(NotAMeasurement, match=message):
        iterate(LlamaBenchTests(), PROMPT, spec, tmp_path, FAKE_LLAMA_BENCH_FAULT=fault)


def test_the_file_is_part_of_what_defines_a_measurement(spec: EngineSpec) -> None:
    before = spec.definition(portable=True)
    assert {"model.gguf", "4"} <= set(before)
    spec.entry.gguf_path.write_bytes(b"GGUF of another size")
    assert spec.definition(portable=True) != before


def test_a_missing_file_is_one_line(spec: EngineSpec, tmp_path: Path) -> None:
    spec.entry.gguf_path.unlink()
    with pytest.raises(InputError, match=r"zoo\.yaml: models\.file\.gguf: no such file: .*model\.gguf$"):
        ENGINE.prepare(spec, tmp_path)


def test_only_a_gguf_file_goes_without_a_config(tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_text("schema_version: 1\nmodels:\n  bad: {architecture: any}\n")
    with pytest.raises(
        InputError, match=r"zoo\.yaml: models\.bad: config: the model's config\.json; only a model with"
    ):
        load_zoo(tmp_path / "zoo.yaml")


def test_samples_of_several_launches_are_pooled() -> None:
    mean, deviation = pooled([(2.0, 1.0, 3), (5.0, 0.0, 1), (4.0, 2**0.5, 2)])  # 1 2 3, 5, 3 5
    assert mean == pytest.approx(19 / 6)
    assert deviation == pytest.approx(((2.1667**2 + 1.1667**2 + 2 * 0.1667**2 + 2 * 1.8333**2) / 5) ** 0.5, rel=1e-3)
