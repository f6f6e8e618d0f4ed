"""Rollouts: closed batches over generation lengths, as reinforcement learning draws them."""

from __future__ import annotations

from typing import Any, ClassVar

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.procedures.generation import Generation
from hybrid_ops.measure.procedures.procedure import Asked, workload_of
from hybrid_ops.workloads.base import FIRST_ORDINARY_TOKEN, Definition
from hybrid_ops.workloads.prompt_files import encode_prompts
from hybrid_ops.workloads.rollout import Rollout, RolloutBatch

CPU_CACHE_BYTES = 1 << 30
"""Cache of a rollout on a CPU: room for all of its sequences at their longest."""


class Rollouts(Generation):
    """One case a generation length; they share a launch."""

    name: ClassVar[str] = "rollout"
    section: ClassVar[str] = "rollouts"
    definition_type: ClassVar[type[Definition]] = Rollout
    details_key: ClassVar[str | None] = "rollouts"
    is_its_own_configuration: ClassVar[bool] = True

    def cases(self, asked: Asked) -> list[Case]:
        rollout = asked.definition
        assert isinstance(rollout, Rollout)
        generations = rollout.num_prompts * rollout.samples
        spec = asked.spec(arguments={"enable_prefix_caching": True, "max_num_seqs": generations})
        context = asked.entry.context or spec.positions or rollout.longest
        divisor = rollout.scale(context)
        sizing: dict[str, Any] = {}
        if spec.platform == "cpu":
            # Each prompt in one step: vLLM's CPU build fails where a request with a seed is computed in parts ("CPU
            # Generator does not use offset").
            most_tokens = generations * rollout.prompt_tokens // divisor
            sizing = {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "max_num_batched_tokens": most_tokens}
        spec = spec.engine.for_length(spec.with_sizing(sizing), rollout.longest // divisor)
        given = None
        if asked.prompt_texts is not None:
            tokenizer = asked.entry.hub if spec.weights == "hub" else None
            vocabulary = spec.model_config()["vocab_size"]
            given = encode_prompts(
                asked.prompt_texts[: rollout.num_prompts], vocabulary, FIRST_ORDINARY_TOKEN, tokenizer
            )
        workloads = rollout.workloads(asked.name, context, given)
        return [Case(spec, name, workload, self) for name, workload in workloads.items()]

    def details(self, case: Case) -> dict[str, Any] | None:
        workload = workload_of(case, RolloutBatch)
        return {
            **workload.model_dump(include={"generation_tokens", "prompt_tokens", "num_prompts", "samples"}),
            "published_length": workload.rollout_length,
            "prompts": "drawn tokens" if workload.given_prompts is None else "given prompts",
            "engine": case.spec.name,
            "placement": case.spec.placement,
        }
