"""The shipped workloads are the generation benchmark log's."""

from __future__ import annotations

import pytest

from hybrid_ops.measure.procedures import read_suites
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.base import FIRST_ORDINARY_TOKEN
from hybrid_ops.workloads.batch import ClosedBatch

TOP = {"temperature": 0.8, "top_k": 50, "top_p": 0.9}
LOG = {  # prompt, generated, sampling: the table of the generation benchmark log
    "short": (64, 64, {}),
    "medium": (256, 256, {}),
    "prefill": (1024, 64, {}),
    "decode": (64, 1024, {}),
    "long": (1024, 1024, {}),
    "sampled": (256, 256, TOP),
    "full-pipe": (256, 256, {**TOP, "repetition_penalty": 1.1}),
}


@pytest.mark.parametrize("name", LOG)
def test_a_workload_is_the_logs(name: str) -> None:
    workload = read_suites().of_kind(ClosedBatch)[name]
    prompt, generated, sampling = LOG[name]
    assert (workload.prompt_tokens, workload.generation_tokens) == (prompt, generated)
    assert workload.sampling.model_dump(exclude_defaults=True) == sampling
    assert (workload.warmup_iterations, workload.timed_iterations, workload.seed) == (2, 3, 42)


def test_the_tiers_grow() -> None:
    loaded = read_suites()
    batches = loaded.of_kind(ClosedBatch)
    suites = {name: [entry for entry in entries if entry in batches] for name, entries in loaded.suites.items()}
    assert suites["quick"] == ["short"]
    assert suites["standard"] == ["short", "medium", "prefill", "decode", "sampled"]
    assert suites["full"] == list(LOG)


def test_prompts_repeat_and_hold_ordinary_tokens_only() -> None:
    workload = read_suites().of_kind(ClosedBatch)["medium"].model_copy(update={"num_prompts": 2})
    prompts = workload.prompts(1024)
    assert prompts == workload.prompts(1024)
    assert [len(prompt) for prompt in prompts] == [256, 256]
    assert prompts[0] != prompts[1]
    assert all(FIRST_ORDINARY_TOKEN <= token < 1024 for prompt in prompts for token in prompt)


def test_the_zoo_has_every_family_of_the_documents() -> None:
    zoo = load_zoo()
    tiny = {"llama", "qwen3", "gemma3", "nemotron-h", "falcon-h1", "mamba", "falcon-mamba", "qwen3-next", "qwen3.5",
            "olmo-hybrid"}  # fmt: skip
    full_size = {"llama-3.2-1b", "qwen3-1.7b", "gemma-3-1b", "olmo-hybrid-7b", "nemotron-h-8b", "falcon-h1-7b",
                 "falcon-mamba-7b"}  # fmt: skip
    assert {f"{name}-tiny" for name in tiny} | full_size <= zoo.keys()
    assert all(zoo[name].hub and zoo[name].platforms == ("cuda",) for name in full_size)
