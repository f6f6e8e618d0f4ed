"""Generation: closed batches, timed token by token and step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean, median
from typing import ClassVar

from hybrid_ops.engines.protocol import GENERATE, GenerationSample, LoadFacts
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import (
    DEVICE_MEMORY,
    GIB,
    KV_CACHE_BYTES,
    LEADING_TOKENS,
    MODEL_BYTES,
    OUTPUT_HASH,
    OUTPUT_THROUGHPUT,
    OUTPUT_TOKENS,
    PEAK_MEMORY,
    RELATIVE_OUTPUT_THROUGHPUT,
    SCHEDULER_STEPS,
    TOKEN_LATENCIES,
    Metric,
    Scope,
    exact,
    latency,
    rate,
    share_of_peak,
)
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, Summary, workload_of
from hybrid_ops.measure.utilisation import accounted_model, utilisation_values
from hybrid_ops.measure.values import NotAMeasurement, Value, percentiles, refuse_unmeasured
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.batch import ClosedBatch

ACCOUNTED_METRICS = (
    share_of_peak("mfu", "The model's FLOPs a second over the device's peak"),
    share_of_peak("mbu", "Bytes that the model must move a second over the device's peak bandwidth"),
    share_of_peak("roofline_share", "The least time that the device's peaks allow over the time taken"),
    exact("arithmetic_intensity", "FLOP/B", Scope.PLATFORM, "The model's FLOPs a byte that it must move"),
)
"""The metrics that need a model whose FLOPs and bytes can be accounted for."""

GENERATION_METRICS = (
    OUTPUT_THROUGHPUT,
    rate("prefill_throughput", "Prompt tokens over the time to the last request's first token"),
    rate("decode_throughput", "Tokens after each request's first, over the time in which they came"),
    TOKEN_LATENCIES["median_ttft_ms"],
    TOKEN_LATENCIES["median_tpot_ms"],
    *(TOKEN_LATENCIES[f"{statistic}_itl_ms"] for statistic in ("median", "p90", "p95", "p99")),
    *(
        latency(f"{statistic}_step_ms", "Duration of an engine step that only decodes")
        for statistic in ("median", "p90", "p95", "p99")
    ),
    TOKEN_LATENCIES["median_e2el_ms"],
    PEAK_MEMORY,
    RELATIVE_OUTPUT_THROUGHPUT,
    *ACCOUNTED_METRICS,
    OUTPUT_TOKENS,
    MODEL_BYTES,
    SCHEDULER_STEPS,
    KV_CACHE_BYTES,
    *DEVICE_MEMORY,
    OUTPUT_HASH,
    LEADING_TOKENS,
)


class Generation(Procedure):
    """A closed batch of prompts, from the first request to the last token."""

    name: ClassVar[str] = "generation"
    section: ClassVar[str] = "workloads"
    definition_type: ClassVar[type[Definition]] = ClosedBatch
    operations: ClassVar[frozenset[str]] = frozenset({GENERATE.name})
    metrics: ClassVar[tuple[Metric, ...]] = GENERATION_METRICS
    fixture: ClassVar[str] = "generation_cell"
    pace: ClassVar[str | None] = OUTPUT_THROUGHPUT.name
    tokens_value: ClassVar[str | None] = OUTPUT_TOKENS.name
    headline: ClassVar[tuple[str, ...]] = (OUTPUT_THROUGHPUT.name, "median_ttft_ms", "median_itl_ms")
    is_brief: ClassVar[bool] = True

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, ClosedBatch)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        left_out = {self.other_output(case), *(ACCOUNTED_METRICS if accounted_model(case.spec) is None else ())}
        return tuple(metric for metric in self.metrics if metric not in left_out)

    @staticmethod
    def other_output(case: Case) -> Metric:
        """Of the two metrics of what was generated, the one that a case does not have."""
        return LEADING_TOKENS if case.spec.engine.repeats_kernels(case.spec) else OUTPUT_HASH

    def exact_metrics(self, case: Case) -> set[str]:
        """Within a launch the kernels are the same, so all that is generated must be too."""
        return {*super().exact_metrics(case), OUTPUT_HASH.name, LEADING_TOKENS.name}

    def summarize(self, case: Case, iterations: Sequence[Mapping[str, Value]]) -> Summary:
        summary = super().summarize(case, iterations)
        summary.values.pop(self.other_output(case).name, None)
        return summary

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        case, workload = iteration.case, workload_of(iteration.case, ClosedBatch)
        sample = iteration.worker.ask(
            GENERATE,
            iteration.patience,
            prompts=workload.prompts(case.spec.model_config()["vocab_size"]),
            generation_tokens=workload.generation_tokens,
            sampling=workload.sampling.model_dump() | {"seed": workload.seed},
            prefix_caching_reset=True,
            samples=workload.samples,
        )
        for kernel, choice in sample.kernel_choices.items():
            iteration.note(f"the autotuner chose {choice} for {kernel}")
        return {
            **generation_values(sample, workload.generation_tokens),
            **memory_values(sample, iteration.facts),
            **device_memory_values(sample),
            **utilisation_values(case.spec, workload, sample, iteration.facts, iteration.peaks),
        }


def generation_values(sample: GenerationSample, expected_tokens: int) -> dict[str, Value]:
    """The times, rates and counts of one batch.

    `expected_tokens` is the number of tokens that each request was told to generate; fewer is not a measurement.
    Rates are in tokens per second, times in milliseconds.
    """
    arrivals = [request.token_arrivals for request in sample.requests]
    short = [len(times) for times in arrivals if len(times) != expected_tokens]
    if short:
        raise NotAMeasurement(f"{len(short)} of {len(arrivals)} requests gave {short[0]} tokens, not {expected_tokens}")
    elapsed = sample.elapsed_seconds
    first_tokens = [times[0] for times in arrivals]
    last_tokens = [times[-1] for times in arrivals]
    output_tokens = sum(map(len, arrivals))
    latencies = [1e3 * seconds for seconds in last_tokens]
    values: dict[str, Value] = {
        "output_throughput": output_tokens / elapsed,
        "prefill_throughput": sample.prompt_tokens / max(first_tokens),
        "total_token_throughput": (sample.prompt_tokens + output_tokens) / elapsed,
        "request_throughput": len(arrivals) / elapsed,
        "median_ttft_ms": 1e3 * median(first_tokens),
        "mean_e2el_ms": mean(latencies),
        **percentiles("e2el_ms", latencies),
        "peak_memory_bytes": sample.peak_memory_bytes,
        "output_tokens": output_tokens,
        "scheduler_steps": len(sample.steps),
        "output_hash": sample.output_hash,
        "leading_tokens": " / ".join(" ".join(map(str, tokens)) for tokens in sample.leading_tokens),
    }
    if expected_tokens > 1:
        gaps = [1e3 * (after - before) for times in arrivals for before, after in pairwise(times)]
        per_token = [1e3 * (times[-1] - times[0]) / (len(times) - 1) for times in arrivals]
        # A step puts out a token for each running request; those before the last first token also prefill.
        decode_steps = [1e3 * seconds for part in sample.parts for seconds, _ in part.steps[_prefill_steps(part) :]]
        values["decode_throughput"] = (output_tokens - len(arrivals)) / (max(last_tokens) - min(first_tokens))
        values["median_tpot_ms"] = median(per_token)
        values |= percentiles("itl_ms", gaps)
        values |= percentiles("step_ms", decode_steps)
    refuse_unmeasured(values)
    return values


def _prefill_steps(sample: GenerationSample) -> int:
    """The number of leading steps in which some request still got its first token or none."""
    missing = len(sample.requests)
    put_out = 0
    for count, (_, tokens) in enumerate(sample.steps, start=1):
        put_out += tokens
        if tokens == missing and put_out >= missing:
            return count
    return len(sample.steps)


def device_memory_values(sample: GenerationSample) -> dict[str, Value]:
    """Weights, activations and cache of the fullest rank, each by itself, in bytes; nothing for an engine on a CPU."""
    if not sample.ranks:
        return {}
    values: dict[str, Value] = {
        "weight_memory_bytes": max(rank.weights for rank in sample.ranks),
        "activation_memory_bytes": max(rank.activations for rank in sample.ranks),
        "cache_memory_bytes": max(rank.cache for rank in sample.ranks),
    }
    refuse_unmeasured(values)
    return values


def memory_values(sample: GenerationSample, facts: LoadFacts) -> dict[str, Value]:
    """The memory that a batch took, from its sample and the facts of its launch.

    Bytes: of the cache's blocks held at once, in all and over the requests that ran at once, of the cache as it was
    allocated, and of the weights. Throughput per GiB counts the weights and the blocks held. What the engine does not
    show is left out.
    """
    values: dict[str, Value] = {}
    held = 0
    if facts.cache is not None:
        held = sample.peak_blocks * facts.cache.bytes_per_block
        values = {
            "kv_cache_bytes": held,
            "kv_cache_bytes_per_request": held / sum(max(tokens for _, tokens in part.steps) for part in sample.parts),
            "kv_cache_memory_bytes": facts.cache.num_blocks * facts.cache.bytes_per_block,
        }
    if facts.model_bytes is not None:
        tokens = sample.prompt_tokens + sum(len(request.token_arrivals) for request in sample.requests)
        values["model_bytes"] = facts.model_bytes
        values["throughput_per_gib"] = tokens / sample.elapsed_seconds / ((facts.model_bytes + held) / GIB)
    return values
