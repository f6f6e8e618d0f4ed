"""From a worker's answers to probes to the values of metrics."""

from __future__ import annotations

from typing import Any

from hybrid_ops.engines.spec import Case, EngineSpec
from hybrid_ops.engines.worker import Worker
from hybrid_ops.measure.generation import NotAMeasurement, Value
from hybrid_ops.models.capacity import FULL_ATTENTION, SLIDING_WINDOW, STATE, CachePlan, plan_cache
from hybrid_ops.models.stack import ModelStack
from hybrid_ops.workloads.probe import CacheProbe, PrefixProbe
from hybrid_ops.workloads.workload import FIRST_ORDINARY_TOKEN

KINDS = {"FullAttentionSpec": FULL_ATTENTION, "SlidingWindowSpec": SLIDING_WINDOW, "MambaSpec": STATE}
"""The planner's words for vLLM's kinds of cache. Other kinds keep vLLM's name."""
CHECKPOINT_KERNEL = "store_prefill_checkpoint"
"""What a build without it cannot do: store Mamba-2's states from within a prefill."""
LOGIT_ERROR = 1e-4
"""Largest difference of float32 logits with and without a hit, relative to the largest logit. Sums of another order
differ by some 1e-6."""


def probe_cache(worker: Worker, probe: CacheProbe, deadline_seconds: float) -> dict[str, Value]:
    """The figures of the engine's cache. Raises WorkerError."""
    return cache_figures(worker.request("probe_cache", deadline_seconds, lengths=probe.lengths))


def cache_figures(layout: dict[str, Any]) -> dict[str, Value]:
    """The metrics of a cache from `hybrid_ops.engines.vllm_probes.cache_layout`'s answer."""
    values: dict[str, Value] = {
        "kv_cache_groups": describe_groups([(KINDS.get(kind, kind), layers) for kind, layers in layout["groups"]]),
        "kv_cache_block_size": layout["block_size"],
        "kv_cache_page_bytes": layout["page_bytes"],
        "kv_cache_blocks": layout["num_blocks"],
        "kv_cache_bytes_per_token": layout["bytes_per_token"],
    }
    for length, figures in layout["lengths"].items():
        values[f"kv_cache_bytes_per_sequence@{length}"] = figures["bytes"]
        values[f"max_concurrency@{length}"] = figures["max_concurrency"]
    return values


def planned_figures(model: ModelStack, plan: CachePlan, lengths: list[int]) -> dict[str, Value]:
    """The same metrics from the planner, without an engine, and for a model without attention no block size.

    Blocks of states alone hold no tokens, and vLLM then reports whatever length it was started with.
    """
    values: dict[str, Value] = {
        "kv_cache_groups": describe_groups([(group.kind, group.layers) for group in plan.groups]),
        "kv_cache_page_bytes": plan.page_bytes,
        "kv_cache_blocks": plan.num_blocks,
        "kv_cache_bytes_per_token": model.kv_bytes_per_token(),
    }
    if model.attention:
        values["kv_cache_block_size"] = plan.block_size
    for length in lengths:
        values[f"kv_cache_bytes_per_sequence@{length}"] = plan.bytes_per_sequence(length)
        values[f"max_concurrency@{length}"] = plan.num_blocks / plan.blocks_per_sequence(length)
    return values


def describe_groups(groups: list[tuple[str, int]]) -> str:
    """Groups as the published tables have them: `7 (1x full attention @ 4 layers, 6x state @ 4 layers)`."""
    kinds = sorted(set(groups))
    described = ", ".join(f"{groups.count(kind)}x {kind[0]} @ {kind[1]} layers" for kind in kinds)
    return f"{len(groups)} ({described})"


def plan_of(spec: EngineSpec, model: ModelStack, facts: dict[str, Any]) -> CachePlan:
    """The planner's answer for a launched engine: the same model, memory, options and version of vLLM.

    `facts` are those of the launch's record. Raises InputError where the planner refuses.
    """
    arguments, cache = spec.engine_arguments, facts["cache"]
    return plan_cache(
        model,
        cache["num_blocks"] * cache["bytes_per_block"],
        tensor_parallel=arguments.get("tensor_parallel_size", 1),
        state_dtype=arguments.get("mamba_ssm_cache_dtype", "auto"),
        prefix_caching=arguments["enable_prefix_caching"],
        engine_version=facts["versions"]["vllm"],
        platform=spec.platform,
        in_flight_tokens=cache["in_flight_tokens"],
        prefill_checkpoint=False if CHECKPOINT_KERNEL in facts.get("reference_kernels", ()) else None,
    )


def probe_prefixes(worker: Worker, case: Case, probe: PrefixProbe, deadline_seconds: float) -> dict[str, Value]:
    """What the prefix cache finds at each length. Raises WorkerError.

    Raises NotAMeasurement when an emptied cache finds something, when the longest prefix is not found at all, and when
    float32 logits after a hit are not those without one.
    """
    vocabulary = case.spec.model_config()["vocab_size"]
    values: dict[str, Value] = {}
    for shared in sorted(probe.shared_tokens):
        first, second = probe.prompts(shared, vocabulary, FIRST_ORDINARY_TOKEN)
        answer = worker.request("probe_prefix", deadline_seconds, first=first, second=second)
        if answer["found_when_empty"]:
            raise NotAMeasurement(f"an emptied prefix cache gave {answer['found_when_empty']} tokens")
        if case.spec.engine_arguments.get("dtype") == "float32":
            _compare_logits(answer["with_cache"], answer["without_cache"], shared)
        values[f"prefix_hit_tokens@{shared}"] = answer["found"]
        values[f"prefix_hit_rate@{shared}"] = 100 * answer["found"] / len(second)
    if values[f"prefix_hit_tokens@{max(probe.shared_tokens)}"] == 0:
        raise NotAMeasurement(f"of {max(probe.shared_tokens)} shared tokens the prefix cache found none")
    return values


def _compare_logits(with_cache: list[float], without_cache: list[float], shared: int) -> None:
    if len(with_cache) != len(without_cache):
        raise NotAMeasurement(f"{len(with_cache)} logits with the prefix cache, {len(without_cache)} without it")
    largest = max(map(abs, without_cache))
    error = max(abs(a - b) for a, b in zip(with_cache, without_cache))
    if not error <= LOGIT_ERROR * largest:
        raise NotAMeasurement(
            f"with {shared} shared tokens, logits with the prefix cache differ by {error:.3g} from those without it, "
            f"of which the largest is {largest:.3g}"
        )
