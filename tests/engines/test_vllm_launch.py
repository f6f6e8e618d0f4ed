"""A real vLLM on the processor: what one launch measures, and that seeded weights make engines tell models apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from hybrid_ops.engines.devices import cpu
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_offline import VllmOffline
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.launch import Launch, Terms, run_launch
from hybrid_ops.measure.procedures.generation import Generation
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.measure.utilisation import workload_cost
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.batch import ClosedBatch
from hybrid_ops.workloads.sampling import Sampling

GREEDY = ClosedBatch(
    description="greedy", prompt_tokens=40, generation_tokens=24, warmup_iterations=0, timed_iterations=2
)
SAMPLED = GREEDY.model_copy(update={"sampling": Sampling(temperature=0.8, top_k=50, top_p=0.9, repetition_penalty=1.1)})
BATCH = GREEDY.model_copy(update={"num_prompts": 3})
UNREAD = {"VLLM_ATTENTION_BACKEND": "FLASHINFER", "VLLM_LOGGING_LEVEL": "INFO"}
"""One that vLLM once read, and one that it reads."""


def launch(model: str, folder: Path, index: int) -> LaunchRecord:
    spec = EngineSpec(model, load_zoo()[model], "cpu", VllmOffline())
    cases = [Case(spec, name, workload, Generation()) for name, workload in
             {"greedy": GREEDY, "sampled": SAMPLED, "batch": BATCH}.items()]  # fmt: skip
    launch = Launch(spec, cases, index, cpu(), folder / f"{model}-{index}", environment=UNREAD)
    record = run_launch(launch, Terms(deadline_seconds=120))
    assert record.error is None, record.error
    assert {name: case.error for name, case in record.cases.items() if case.error} == {}
    return record


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LaunchRecord:
    return launch("llama-tiny", tmp_path_factory.mktemp("llama"), 1)


@pytest.fixture(scope="module")
def nemotron(tmp_path_factory: pytest.TempPathFactory) -> LaunchRecord:
    return launch("nemotron-h-tiny", tmp_path_factory.mktemp("nemotron"), 1)


@pytest.mark.long
def test_exact_metrics_repeat_in_a_fresh_process(llama: LaunchRecord, tmp_path: Path) -> None:
    exact = ("output_tokens", "scheduler_steps", "output_hash", "kv_cache_bytes", "model_bytes")
    first, second = ({case: [seen.values[name] for name in exact] for case, seen in record.cases.items()}
                     for record in (llama, launch("llama-tiny", tmp_path, 2)))  # fmt: skip
    assert first == second


def test_greedy_and_sampled_outputs_differ(llama: LaunchRecord) -> None:
    hashes = {case: seen.values["output_hash"] for case, seen in llama.cases.items()}
    assert len(set(hashes.values())) == 3


@pytest.mark.long
def test_models_do_not_echo_one_another(llama: LaunchRecord, nemotron: LaunchRecord) -> None:
    one = llama.cases["llama-tiny/greedy"].values["output_hash"]
    other = nemotron.cases["nemotron-h-tiny/greedy"].values["output_hash"]
    assert one != other


def test_counts_are_those_of_the_workload(llama: LaunchRecord) -> None:
    single, batch = (llama.cases[f"llama-tiny/{name}"].values for name in ("greedy", "batch"))
    assert (single["output_tokens"], batch["output_tokens"]) == (24, 72)
    assert single["scheduler_steps"] == batch["scheduler_steps"] == 24  # one prefill step, then one a token
    # 40 + 24 tokens fill one block of 128 tokens: 4 layers × 2 (keys, values) × 2 heads × 64 × 2 bytes a token.
    assert single["kv_cache_bytes"] == 128 * 4 * 2 * 2 * 64 * 2
    assert batch["kv_cache_bytes"] == 3 * single["kv_cache_bytes"]


def test_the_model_computes_in_every_step_of_a_processor(llama: LaunchRecord) -> None:
    """So what a batch costs there is as it was before steps without work were left out."""
    batch = llama.cases["llama-tiny/batch"]
    cost = workload_cost(EngineSpec("llama-tiny", load_zoo()["llama-tiny"], "cpu", VllmOffline()), BATCH, 24, "0.32")
    assert cost is not None
    assert batch.values["arithmetic_intensity"] == cost.total.arithmetic_intensity


def test_times_hang_together(llama: LaunchRecord) -> None:
    iterations = llama.cases["llama-tiny/greedy"].iterations
    assert len(iterations) == GREEDY.timed_iterations
    for values in iterations:
        assert values["median_ttft_ms"] < values["median_e2el_ms"]
        assert values["median_itl_ms"] <= values["p90_itl_ms"] <= values["p95_itl_ms"] <= values["p99_itl_ms"]
        # One request at a time: the rate is the reciprocal of the time a token. Medians of two iterations need not be.
        assert values["decode_throughput"] == pytest.approx(1e3 / values["median_tpot_ms"])


@pytest.mark.long
def test_the_record_names_versions_device_and_cache_groups(nemotron: LaunchRecord) -> None:
    facts = nemotron.facts
    assert facts is not None and facts.cache is not None
    assert facts.device.platform == "cpu"
    assert {"vllm", "torch", "transformers"} <= facts.versions.keys()
    assert facts.unknown_variables == ["VLLM_ATTENTION_BACKEND"]
    assert facts.compile_seconds is None and facts.capture_seconds is None, "eager"
    kinds = {group.kind: group.layers for group in facts.cache.groups}
    assert kinds["FullAttentionSpec"] == 1
    assert "MambaSpec" in kinds


def test_the_record_survives_json(llama: LaunchRecord) -> None:
    adapter = TypeAdapter(LaunchRecord)
    assert adapter.validate_json(adapter.dump_json(llama, by_alias=True)) == llama
