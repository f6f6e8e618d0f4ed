"""Comparison: full, sliding-window and hybrid attention of one base model, over input lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from hybrid_ops.engines.engine import CacheSize
from hybrid_ops.errors import InputError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.claim import Claim
from hybrid_ops.measure.metrics import (
    KV_CACHE_BYTES,
    LEADING_TOKENS,
    MODEL_BYTES,
    OUTPUT_HASH,
    OUTPUT_THROUGHPUT,
    OUTPUT_TOKENS,
    PEAK_MEMORY,
    REQUEST_THROUGHPUT,
    SCHEDULER_STEPS,
    TOKEN_LATENCIES,
    TOTAL_TOKEN_THROUGHPUT,
    Direction,
    Kind,
    Metric,
    Scope,
    exact,
    rate,
)
from hybrid_ops.measure.procedures.generation import Generation
from hybrid_ops.measure.procedures.procedure import Asked, workload_of
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.comparison import ComparedBatch, Comparison

NEAR = 0.1
"""How much worse counts as near, comparable, similar or close."""
CLAIMS = (
    Claim("KV-cache memory is lower than full attention's", "kv_cache_bytes_over_full", "every", most=1.0),
    Claim(
        "model memory is similar to full attention's or slightly higher",
        "model_bytes_over_full",
        "longest",
        most=1 + NEAR,
    ),
    Claim("throughput per GiB is better than full attention's", "throughput_per_gib_over_full", "every", least=1.0),
    Claim(
        "throughput is comparable to the sliding window's on short inputs",
        "total_token_throughput_over_sliding",
        "shortest",
        least=1 - NEAR,
    ),
    Claim(
        "throughput is above full attention's on long inputs", "total_token_throughput_over_full", "longest", least=1.0
    ),
    Claim("p99 latency is close to the sliding window's", "p99_e2el_over_sliding", "every", most=1 + NEAR),
)
"""The claims of the hybrid attention suite."""
KV_CACHE_MEMORY = exact(
    "kv_cache_memory_bytes", "B", Scope.PLATFORM, "Bytes that the engine has allocated for its cache"
)
MEDIAN_ITL = TOKEN_LATENCIES["median_itl_ms"]
COMPARISON_METRICS = (
    REQUEST_THROUGHPUT,
    TOTAL_TOKEN_THROUGHPUT,
    OUTPUT_THROUGHPUT,
    *(TOKEN_LATENCIES[f"{statistic}_e2el_ms"] for statistic in ("mean", "median", "p90", "p99")),
    TOKEN_LATENCIES["median_ttft_ms"],
    MEDIAN_ITL,
    PEAK_MEMORY,
    rate(
        "throughput_per_gib",
        "Prompt and generated tokens a second over the GiB of weights and of cache blocks held at once",
        "tok/s/GiB",
    ),
    KV_CACHE_MEMORY,
    KV_CACHE_BYTES,
    exact("kv_cache_bytes_per_request", "B", Scope.PLATFORM, "Those bytes over the requests that ran at once"),
    MODEL_BYTES,
    OUTPUT_TOKENS,
    SCHEDULER_STEPS,
    OUTPUT_HASH,
    LEADING_TOKENS,
)
"""The metrics of each configuration of attention."""


def _over(of: str, against: str, direction: Direction, description: str) -> Metric:
    """A ratio of what is deterministic is deterministic too: exact, and without a direction."""
    name = f"{of.removesuffix('_ms')}_over_{against}"
    kind = Kind.RATIO if direction is not Direction.NONE else Kind.EXACT
    return Metric(name, "ratio", kind, direction, Scope.PLATFORM, description, of, against)


HYBRID_METRICS = (
    _over("kv_cache_bytes", "full", Direction.NONE, "Cache bytes held at once over full attention's"),
    _over("model_bytes", "full", Direction.NONE, "Bytes of the weights over full attention's"),
    _over("throughput_per_gib", "full", Direction.HIGHER, "Throughput per GiB over full attention's"),
    _over("total_token_throughput", "full", Direction.HIGHER, "Throughput over full attention's"),
    _over("total_token_throughput", "sliding", Direction.HIGHER, "Throughput over the sliding window's"),
    _over("p99_e2el_ms", "sliding", Direction.LOWER, "99th percentile of request latency over the sliding window's"),
)
"""Those of the hybrid configuration beside them, in the same run and at the same input length."""


class Comparisons(Generation):
    """One case an input length, for each of the three models; those of a model share a launch."""

    name: ClassVar[str] = "comparison"
    section: ClassVar[str] = "comparisons"
    definition_type: ClassVar[type[Definition]] = Comparison
    metrics: ClassVar[tuple[Metric, ...]] = COMPARISON_METRICS + HYBRID_METRICS
    fixture: ClassVar[str] = "comparison_cell"
    details_key: ClassVar[str | None] = "comparisons"
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    is_its_own_configuration: ClassVar[bool] = True

    def cases(self, asked: Asked) -> list[Case]:
        comparison = asked.definition
        assert isinstance(comparison, Comparison)
        if comparison.base_of(asked.model) is None:
            return []
        spec = asked.spec()
        context = asked.entry.context or spec.positions or comparison.longest
        workloads = comparison.workloads(asked.model, spec.platform, context)
        spec = spec.with_sizing({"max_num_seqs": comparison.on(spec.platform).num_prompts})
        spec = spec.engine.for_length(spec, comparison.longest // comparison.scale(context))
        return [Case(spec, name, workload, self) for name, workload in workloads.items()]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        workload = workload_of(case, ComparedBatch)
        metrics = self.metrics if workload.attention == "hybrid" else COMPARISON_METRICS
        own_scopes = {}
        if workload.is_reduced:
            own_scopes[OUTPUT_TOKENS] = Scope.PLATFORM  # a platform's number of prompts is its own
        size = case.spec.engine.cache_size(case.spec)
        if size is not CacheSize.ARGUMENTS:
            own_scopes[KV_CACHE_MEMORY] = Scope.DEVICE_CLASS
        left_out = {
            Generation.other_output(case),
            *([MEDIAN_ITL] if workload.generation_tokens == 1 else []),
            *([KV_CACHE_MEMORY] if size is CacheSize.FREE_MEMORY else []),  # which is then nothing exact
        }
        return tuple(
            replace(metric, scope=own_scopes.get(metric, metric.scope)) for metric in metrics if metric not in left_out
        )

    def reference_model(self, case: Case, metric: Metric, definition: Definition) -> str | None:
        assert isinstance(definition, Comparison)
        for attention, model in definition.models[workload_of(case, ComparedBatch).base].items():
            if attention == metric.against:
                return model
        return None

    def refuse_without_reference(self, case: Case, model: str) -> None:
        raise InputError(
            f"{case.spec.entry.source}: models.{case.spec.model}: another context than {model}'s; "
            f"{case.spec.configuration} compares equal lengths"
        )

    def details(self, case: Case) -> dict[str, Any] | None:
        workload = workload_of(case, ComparedBatch)
        left_out = {"given_prompts", "place", "samples", "is_reduced"}
        return {**workload.model_dump(exclude=left_out), "model": case.spec.model, "engine": case.spec.name}

    def is_claimed(self, claim: Claim, case: Case) -> bool:
        return claim.at == "every" or workload_of(case, ComparedBatch).place in (claim.at, "only")

    def claim_place(self, case: Case) -> tuple[str, int]:
        workload = workload_of(case, ComparedBatch)
        return workload.base, workload.prompt_tokens
