"""Planted faults in real engines: each is caught by the agreement check, and a sound engine is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_offline import VllmOffline
from hybrid_ops.engines.vllm_plugins.faults import FAULT_VARIABLE, FAULTS
from hybrid_ops.engines.worker import Worker
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.launch import load_engine
from hybrid_ops.measure.procedures.agreement import AgreementCheck
from hybrid_ops.measure.procedures.procedure import Iteration
from hybrid_ops.measure.values import bound_name
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.agreement import Agreement
from tests.engines.real_engine import needs_vllm

pytestmark = needs_vllm

HIGHER = ("top1_agreement", "first_disagreement")
CAUGHT = [
    ("state-not-carried", "nemotron-h-tiny", {}, "chunked_logprob_error"),
    ("state-not-carried", "mamba-tiny", {}, "chunked_logprob_error"),
    ("state-not-carried", "qwen3-next-tiny", {}, "chunked_logprob_error"),
    ("window-off-by-one", "gemma3-tiny", {}, "mean_logprob_error"),
    ("window-off-by-one", "gemma3-tiny", {"dtype": "float32"}, "first_disagreement"),
    ("wrong-heads", "nemotron-h-tiny", {}, "top1_agreement"),
    ("wrong-heads", "llama-tiny", {}, "top1_agreement"),
    ("zeroed-attention", "nemotron-h-tiny", {}, "max_logprob_error"),
    ("zeroed-scan", "nemotron-h-tiny", {}, "mean_logprob_error"),
    ("stale-block", "llama-tiny", {"enable_prefix_caching": True}, "prefix_cache_logprob_error"),
    ("lost-scale", "nemotron-h-tiny", {}, "mean_logprob_error"),
    ("eight-bit-cache", "llama-tiny", {}, "mean_logprob_error"),
]
"""A fault, the model and arguments that it is planted in, and a metric that catches it."""


def beyond(folder: Path, fault: str, model: str, arguments: dict[str, Any]) -> set[str]:
    """The metrics that are beyond their bounds in a real engine with a fault."""
    spec = EngineSpec(model, load_zoo()[model], "cpu", VllmOffline(), arguments=arguments)
    workload = Agreement(description="", text_tokens=[24, 150, 900])
    case = Case(spec, "agreement", workload, AgreementCheck())
    environment = {**cpu().rank_environment(spec.ranks), "OMP_NUM_THREADS": "1", FAULT_VARIABLE: fault}
    with Worker(VllmOffline.worker, folder, environment=environment) as worker:
        facts = load_engine(worker, spec, folder)
        values = case.procedure.iterate(Iteration(case, worker, facts, folder, deadline_seconds=300.0))
    found = set()
    for metric in case.procedure.metrics_of(case):
        distance = float(values[metric.name]) - float(values[bound_name(metric.name)])
        if (distance < 0) if metric.name in HIGHER else (distance > 0):
            found.add(metric.name)
    return found


IN_TWO_RANKS = (
    "llama-tiny",
    "gemma3-tiny",
    "nemotron-h-tiny",
    "falcon-h1-tiny",
    "mamba-tiny",
    "qwen3-next-tiny",
    "olmo-hybrid-tiny",
)


def test_every_fault_is_in_the_table() -> None:
    assert {fault for fault, *_ in CAUGHT} == FAULTS.keys()


@pytest.mark.long
def test_a_state_that_is_not_carried_is_caught_where_the_prefill_is_in_parts(tmp_path: Path) -> None:
    assert beyond(tmp_path, "state-not-carried", "nemotron-h-tiny", {}) == {"chunked_logprob_error"}


@pytest.mark.long
@pytest.mark.parametrize(("fault", "model", "arguments", "metric"), CAUGHT)
def test_a_planted_fault_is_caught(
    fault: str, model: str, arguments: dict[str, Any], metric: str, tmp_path: Path
) -> None:
    assert metric in beyond(tmp_path, fault, model, arguments)


@pytest.mark.long
@pytest.mark.parametrize(
    "model", ["llama-tiny", "nemotron-h-tiny", "gemma3-tiny", "qwen3-next-tiny", "falcon-mamba-tiny"]
)
def test_a_sound_engine_raises_no_alarm(model: str, tmp_path: Path) -> None:
    assert beyond(tmp_path, "", model, {"enable_prefix_caching": True}) == set()


@pytest.mark.long
@pytest.mark.parametrize("model", IN_TWO_RANKS)
def test_two_ranks_hold_the_model_of_one(model: str, tmp_path: Path) -> None:
    assert beyond(tmp_path, "", model, {"tensor_parallel_size": 2}) == set()
