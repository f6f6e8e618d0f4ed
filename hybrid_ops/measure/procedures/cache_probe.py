"""The cache probe: how an engine divides its cache, and what fits into it. The model computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from hybrid_ops.engines.engine import CacheSize
from hybrid_ops.engines.protocol import PROBE_CACHE, CacheLayout, LoadFacts
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Metric, Scope, at_length, exact, rate
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, workload_of
from hybrid_ops.measure.values import Value
from hybrid_ops.models.capacity import FULL_ATTENTION, SLIDING_WINDOW, STATE, CachePlan, plan_cache
from hybrid_ops.models.stack import ModelStack
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.probe import CacheProbe

KINDS = {"FullAttentionSpec": FULL_ATTENTION, "SlidingWindowSpec": SLIDING_WINDOW, "MambaSpec": STATE}
"""The planner's words for vLLM's kinds of cache. Other kinds keep vLLM's name."""
CHECKPOINT_KERNEL = "store_prefill_checkpoint"
"""What a build without it cannot do: store Mamba-2's states from within a prefill."""
CACHE_METRICS = (
    exact("kv_cache_groups", "", Scope.PLATFORM, "Groups of layers that share block tables, by what they keep"),
    exact("kv_cache_block_size", "tokens", Scope.PLATFORM, "Tokens that a block of attention holds"),
    exact("kv_cache_page_bytes", "B", Scope.PLATFORM, "Bytes that a block takes for one layer"),
    exact("kv_cache_blocks", "blocks", Scope.PLATFORM, "Blocks that the cache's memory is divided into"),
    exact("kv_cache_bytes_per_token", "B", Scope.PLATFORM, "Bytes that one more token takes in full attention"),
)
"""Those that do not depend on a length."""
CACHE_METRICS_AT = (
    exact("kv_cache_bytes_per_sequence", "B", Scope.PLATFORM, "Bytes of the blocks that a sequence so long takes"),
    exact("max_concurrency", "sequences", Scope.PLATFORM, "Sequences so long that fit into the cache at once"),
)
"""Those of each length: `max_concurrency@32768`."""
MEASURED = {
    "kv_cache_blocks": rate(
        "measured_kv_cache_blocks", "Blocks that the memory that was free is divided into", "blocks"
    ),
    "max_concurrency": rate(
        "measured_max_concurrency", "Sequences so long that fit into the memory that was free", "sequences"
    ),
}
"""What follows from the size of the cache. In place of an exact metric, where a start makes it of the free memory."""


class CacheProbes(Procedure):
    """Exact figures of a loaded engine's cache."""

    name: ClassVar[str] = "cache-probe"
    section: ClassVar[str] = "probes"
    definition_type: ClassVar[type[Definition]] = CacheProbe
    operations: ClassVar[frozenset[str]] = frozenset({PROBE_CACHE.name})
    metrics: ClassVar[tuple[Metric, ...]] = (*CACHE_METRICS, *CACHE_METRICS_AT, *MEASURED.values())
    fixture: ClassVar[str] = "probe_cell"
    runs_the_model: ClassVar[bool] = False

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, CacheProbe)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        size = case.spec.engine.cache_size(case.spec)
        metrics = [_by_size(metric, size) for metric in CACHE_METRICS]
        for length in workload_of(case, CacheProbe).lengths:
            metrics += [at_length(_by_size(metric, size), length) for metric in CACHE_METRICS_AT]
        return tuple(metrics)

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        lengths = workload_of(iteration.case, CacheProbe).lengths
        return cache_figures(iteration.worker.ask(PROBE_CACHE, iteration.patience, lengths=lengths))


def _by_size(metric: Metric, size: CacheSize) -> Metric:
    """A metric as it is where the size of the cache follows from `size`."""
    if metric.name not in MEASURED or size is CacheSize.ARGUMENTS:
        return metric
    return replace(metric, scope=Scope.DEVICE_CLASS) if size is CacheSize.DEVICE else MEASURED[metric.name]


def cache_figures(layout: CacheLayout) -> dict[str, Value]:
    """The metrics of a cache from the engine's answer."""
    values: dict[str, Value] = {
        "kv_cache_groups": describe_groups([(KINDS.get(kind, kind), layers) for kind, layers in layout.groups]),
        "kv_cache_block_size": layout.block_size,
        "kv_cache_page_bytes": layout.page_bytes,
        "kv_cache_blocks": layout.num_blocks,
        "kv_cache_bytes_per_token": layout.bytes_per_token,
    }
    for length, figures in layout.lengths.items():
        values[f"kv_cache_bytes_per_sequence@{length}"] = figures.bytes
        values[f"max_concurrency@{length}"] = figures.max_concurrency
    for name, value in list(values.items()):
        family, mark, length = name.partition("@")
        if family in MEASURED:
            values[f"{MEASURED[family].name}{mark}{length}"] = value
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


def plan_of(spec: EngineSpec, model: ModelStack, facts: LoadFacts) -> CachePlan:
    """The planner's answer for a launched engine: the same model, memory, options and version of vLLM.

    Raises InputError where the planner refuses, ValueError for an engine that shows no cache.
    """
    arguments, cache = spec.engine_arguments, facts.cache
    if cache is None:
        raise ValueError(f"{spec.engine.name} shows no cache to plan for")
    return plan_cache(
        model,
        cache.num_blocks * cache.bytes_per_block,
        tensor_parallel=arguments.get("tensor_parallel_size", 1),
        state_dtype=arguments.get("mamba_ssm_cache_dtype", "auto"),
        prefix_caching=arguments["enable_prefix_caching"],
        engine_version=facts.versions["vllm"],
        platform=spec.platform,
        in_flight_tokens=cache.in_flight_tokens,
        prefill_checkpoint=False if CHECKPOINT_KERNEL in facts.reference_kernels else None,
    )
