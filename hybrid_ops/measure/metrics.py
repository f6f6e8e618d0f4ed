"""What is measured: the names, units, directions and kinds of all metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from hybrid_ops.workloads.comparison import Attention
from hybrid_ops.workloads.probe import CacheProbe, PrefixProbe
from hybrid_ops.workloads.serving import LATENCIES, PERCENTILES
from hybrid_ops.workloads.workload import AnyWorkload, ComparedWorkload, Workload


class Kind(StrEnum):
    """How two values of a metric are compared."""

    EXACT = "exact"
    """Deterministic: compared for equality."""
    RATIO = "ratio"
    """Two quantities of one run: portable, compared with a tolerance."""
    ABSOLUTE = "absolute"
    """Times, rates and process memory: compared only on the device class that they were measured on."""


class Direction(StrEnum):
    HIGHER = "higher"
    """Higher is better."""
    LOWER = "lower"
    """Lower is better."""
    NONE = "none"
    """Neither: any difference is a change (exact metrics)."""


class Scope(StrEnum):
    """The machines on which one value of a metric is expected to hold: where its baseline lies."""

    ANY = "any"
    """Every machine."""
    PLATFORM = "platform"
    """Every machine of one platform (`cpu`, `cuda`), because page rules and kernels differ between them."""
    DEVICE_CLASS = "device-class"
    """Machines of one device class only."""


@dataclass(frozen=True)
class Metric:
    """A named number (or, for hashes, a string) with a unit, a direction and a kind."""

    name: str
    unit: str
    kind: Kind
    direction: Direction
    scope: Scope
    description: str
    of: str | None = None
    """For a ratio: the metric whose value is divided by the same one of another case."""
    against: Attention | None = None
    """For a ratio of a comparison: the configuration of attention that it is divided by."""


PACE = "output_throughput"
"""The metric that shows how fast an engine is at all: whether it has warmed up, whether its launches agree."""


def _rate(name: str, description: str) -> Metric:
    return Metric(name, "tok/s", Kind.ABSOLUTE, Direction.HIGHER, Scope.DEVICE_CLASS, description)


def _latency(name: str, description: str) -> Metric:
    return Metric(name, "ms", Kind.ABSOLUTE, Direction.LOWER, Scope.DEVICE_CLASS, description)


def _exact(name: str, unit: str, scope: Scope, description: str) -> Metric:
    return Metric(name, unit, Kind.EXACT, Direction.NONE, scope, description)


def _share(name: str, description: str) -> Metric:
    return Metric(name, "%", Kind.ABSOLUTE, Direction.HIGHER, Scope.DEVICE_CLASS, description)


PEAK_METRICS = (
    _share("mfu", "The model's FLOPs a second over the device's peak"),
    _share("mbu", "Bytes that the model must move a second over the device's peak bandwidth"),
    _share("roofline_share", "The least time that the device's peaks allow over the time taken"),
)
"""The metrics of a generation that need the device's peaks, and a model that can be accounted for."""
ARITHMETIC_INTENSITY = _exact(
    "arithmetic_intensity", "FLOP/B", Scope.PLATFORM, "The model's FLOPs a byte that it must move"
)
"""Needs a model that can be accounted for."""

GENERATION_METRICS = (
    _rate("output_throughput", "Generated tokens over the time from the first request to the last token"),
    _rate("prefill_throughput", "Prompt tokens over the time to the last request's first token"),
    _rate("decode_throughput", "Tokens after each request's first, over the time in which they came"),
    _latency("median_ttft_ms", "Time to first token"),
    _latency("median_tpot_ms", "Time per output token after the first, one value a request"),
    _latency("median_itl_ms", "Time between successive tokens of a request"),
    _latency("p90_itl_ms", "Time between successive tokens of a request"),
    _latency("p95_itl_ms", "Time between successive tokens of a request"),
    _latency("p99_itl_ms", "Time between successive tokens of a request"),
    _latency("median_step_ms", "Duration of an engine step that only decodes"),
    _latency("p90_step_ms", "Duration of an engine step that only decodes"),
    _latency("p95_step_ms", "Duration of an engine step that only decodes"),
    _latency("p99_step_ms", "Duration of an engine step that only decodes"),
    _latency("median_e2el_ms", "Time from a request's arrival to its last token"),
    Metric(
        "peak_memory_bytes",
        "B",
        Kind.ABSOLUTE,
        Direction.LOWER,
        Scope.DEVICE_CLASS,
        "Most bytes allocated on the device; on a CPU, most bytes resident in the engine process",
    ),
    Metric(
        "relative_output_throughput",
        "ratio",
        Kind.RATIO,
        Direction.HIGHER,
        Scope.PLATFORM,
        "Output throughput over that of the model's full-attention reference in the same run and workload",
        of="output_throughput",
    ),
    *PEAK_METRICS,
    ARITHMETIC_INTENSITY,
    _exact("output_tokens", "tokens", Scope.ANY, "Tokens generated in one iteration"),
    _exact("model_bytes", "B", Scope.ANY, "Bytes of the weights, before any kernel repacks them"),
    _exact("scheduler_steps", "steps", Scope.PLATFORM, "Engine steps of one iteration"),
    _exact("kv_cache_bytes", "B", Scope.PLATFORM, "Most bytes of cache blocks (keys, values, states) held at once"),
    _exact("output_hash", "", Scope.DEVICE_CLASS, "Hash of all generated token ids"),
)
"""The metrics of a generation case, in the order in which they are shown."""

_GENERATION = {metric.name: metric for metric in GENERATION_METRICS}
_LATENCIES = {
    "ttft": "Time from sending a request to its first token",
    "tpot": "Time per output token after the first, one value a request",
    "itl": "Time between successive tokens of a request",
    "e2el": "Time from sending a request to its last token",
}
_STATISTICS = ("mean", "median", *(f"p{percent}" for percent in PERCENTILES))

SERVING_METRICS = (
    Metric(
        "request_throughput",
        "req/s",
        Kind.ABSOLUTE,
        Direction.HIGHER,
        Scope.DEVICE_CLASS,
        "Completed requests over the time from the first request to the last token",
    ),
    _GENERATION["output_throughput"],
    _rate("total_token_throughput", "Prompt and generated tokens over the same time"),
    Metric(
        "request_goodput",
        "req/s",
        Kind.ABSOLUTE,
        Direction.HIGHER,
        Scope.DEVICE_CLASS,
        "Requests within the load's service-level objective, over the same time",
    ),
    *(
        # A metric that generation has too is the same metric: a name has one meaning.
        _GENERATION.get(f"{statistic}_{name}_ms") or _latency(f"{statistic}_{name}_ms", _LATENCIES[name])
        for name in LATENCIES
        for statistic in _STATISTICS
    ),
    _GENERATION["relative_output_throughput"],
    _exact("completed", "requests", Scope.ANY, "Requests that gave all their tokens; one less is not a measurement"),
    _exact("total_input_tokens", "tokens", Scope.ANY, "Prompt tokens of one iteration, as the server counts them"),
    _exact("total_output_tokens", "tokens", Scope.ANY, "Tokens generated in one iteration"),
)
"""The metrics of a serving case, named as `vllm bench serve` names them."""

_SERVING = {metric.name: metric for metric in SERVING_METRICS}
GIB = 1 << 30


def _over(of: str, against: Attention, direction: Direction, description: str) -> Metric:
    """A ratio of what is deterministic is deterministic too: exact, and without a direction."""
    name = f"{of.removesuffix('_ms')}_over_{against}"
    kind = Kind.RATIO if direction is not Direction.NONE else Kind.EXACT
    return Metric(name, "ratio", kind, direction, Scope.PLATFORM, description, of, against)


COMPARISON_METRICS = (
    _SERVING["request_throughput"],
    _SERVING["total_token_throughput"],
    _GENERATION["output_throughput"],
    *(_SERVING[f"{statistic}_e2el_ms"] for statistic in ("mean", "median", "p90", "p99")),
    _GENERATION["median_ttft_ms"],
    _GENERATION["median_itl_ms"],
    _GENERATION["peak_memory_bytes"],
    Metric(
        "throughput_per_gib",
        "tok/s/GiB",
        Kind.ABSOLUTE,
        Direction.HIGHER,
        Scope.DEVICE_CLASS,
        "Prompt and generated tokens a second over the GiB of weights and of cache blocks held at once",
    ),
    _exact("kv_cache_memory_bytes", "B", Scope.PLATFORM, "Bytes that the engine has allocated for its cache"),
    _GENERATION["kv_cache_bytes"],
    _exact("kv_cache_bytes_per_request", "B", Scope.PLATFORM, "Those bytes over the requests that ran at once"),
    _GENERATION["model_bytes"],
    _GENERATION["output_tokens"],
    _GENERATION["scheduler_steps"],
    _GENERATION["output_hash"],
)
"""The metrics of each configuration of attention of a comparison."""
HYBRID_METRICS = (
    _over("kv_cache_bytes", "full", Direction.NONE, "Cache bytes held at once over full attention's"),
    _over("model_bytes", "full", Direction.NONE, "Bytes of the weights over full attention's"),
    _over("throughput_per_gib", "full", Direction.HIGHER, "Throughput per GiB over full attention's"),
    _over("total_token_throughput", "full", Direction.HIGHER, "Throughput over full attention's"),
    _over("total_token_throughput", "sliding", Direction.HIGHER, "Throughput over the sliding window's"),
    _over("p99_e2el_ms", "sliding", Direction.LOWER, "99th percentile of request latency over the sliding window's"),
)
"""Those of the hybrid configuration beside them, in the same run and at the same input length."""

CACHE_METRICS = (
    _exact("kv_cache_groups", "", Scope.PLATFORM, "Groups of layers that share block tables, by what they keep"),
    _exact("kv_cache_block_size", "tokens", Scope.PLATFORM, "Tokens that a block of attention holds"),
    _exact("kv_cache_page_bytes", "B", Scope.PLATFORM, "Bytes that a block takes for one layer"),
    _exact("kv_cache_blocks", "blocks", Scope.PLATFORM, "Blocks that the cache's memory is divided into"),
    _exact("kv_cache_bytes_per_token", "B", Scope.PLATFORM, "Bytes that one more token takes in full attention"),
)
"""The metrics of a cache probe that do not depend on a length. On GPUs the number of blocks follows from what memory
the engine finds free, unless the launch fixes it."""
CACHE_METRICS_AT = (
    _exact("kv_cache_bytes_per_sequence", "B", Scope.PLATFORM, "Bytes of the blocks that a sequence so long takes"),
    _exact("max_concurrency", "sequences", Scope.PLATFORM, "Sequences so long that fit into the cache at once"),
)
"""Those of each length: `max_concurrency@32768`."""
PREFIX_METRICS_AT = (
    _exact("prefix_hit_tokens", "tokens", Scope.PLATFORM, "Tokens found of a prompt that shares so many with another"),
    _exact("prefix_hit_rate", "%", Scope.PLATFORM, "Those tokens over all of that prompt's"),
)
"""The metrics of a prefix probe, for each length of the shared prefix."""

METRICS = {
    metric.name: metric
    for metric in (*GENERATION_METRICS, *SERVING_METRICS, *COMPARISON_METRICS, *HYBRID_METRICS, *CACHE_METRICS)
}
"""Every metric by name, except those of a length; `find_metric` knows both."""
_METRICS_AT = {metric.name: metric for metric in CACHE_METRICS_AT + PREFIX_METRICS_AT}


def at_length(metric: Metric, length: int) -> Metric:
    """A metric of one length, such as `max_concurrency@4096`."""
    return replace(metric, name=f"{metric.name}@{length}")


def find_metric(name: str) -> Metric | None:
    """The metric of this name, or None."""
    family, mark, length = name.partition("@")
    if mark and length.isdecimal() and family in _METRICS_AT:
        return at_length(_METRICS_AT[family], int(length))
    return METRICS.get(name)


def metrics_of(workload: AnyWorkload) -> tuple[Metric, ...]:
    """The metrics of a case with this workload, in the order in which they are shown."""
    if isinstance(workload, CacheProbe):
        by_length = [at_length(metric, length) for length in workload.lengths for metric in CACHE_METRICS_AT]
        return (*CACHE_METRICS, *by_length)
    if isinstance(workload, PrefixProbe):
        return tuple(at_length(metric, length) for length in workload.shared_tokens for metric in PREFIX_METRICS_AT)
    if isinstance(workload, ComparedWorkload):
        further = HYBRID_METRICS if workload.attention == "hybrid" else ()
        one_token = {"median_itl_ms"} if workload.generation_tokens == 1 else set()
        return tuple(metric for metric in (*COMPARISON_METRICS, *further) if metric.name not in one_token)
    if isinstance(workload, Workload):
        return GENERATION_METRICS
    left_out = set()
    if not workload.goodput:
        left_out.add("request_goodput")
    if not workload.ignore_eos:
        left_out.add("total_output_tokens")  # the model's choice, which numerics may tip
    if workload.generation_tokens == 1:
        left_out |= {f"{statistic}_{name}_ms" for statistic in _STATISTICS for name in ("tpot", "itl")}
    return tuple(metric for metric in SERVING_METRICS if metric.name not in left_out)


def exact_metrics(workload: AnyWorkload) -> set[str]:
    """The names of the metrics that must be the same in every iteration of a workload."""
    return {metric.name for metric in metrics_of(workload) if metric.kind is Kind.EXACT}
