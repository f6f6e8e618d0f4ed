"""What a metric is, and the metrics that several kinds of work share. Each procedure lists its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """How two values of a metric are compared."""

    EXACT = "exact"
    """Deterministic: compared for equality, or held against a bound that comes with it."""
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
    against: str | None = None
    """For a ratio: what the other case is, in the words of its procedure; None for the model's reference."""
    needs_peaks: bool = False
    """Whether it has a value only where the device's peaks are known."""
    platforms: tuple[str, ...] | None = None
    """Where engines can tell it; everywhere when None."""
    is_tokens: bool = False
    """Whether a value is a list of token ids, which are compared one by one from the first."""
    is_bounded: bool = False
    """Whether each value comes with the bound that it is held against, so that no baseline is needed."""
    rounding: float = 0.0
    """For an exact number, or a text of numbers: how far two values may lie apart, relative to the greater, and still
    be the same. Rounding differs between processors and kernels; a wrong kernel differs by more."""


def rate(name: str, description: str, unit: str = "tok/s") -> Metric:
    """An absolute metric of which more is better."""
    return Metric(name, unit, Kind.ABSOLUTE, Direction.HIGHER, Scope.DEVICE_CLASS, description)


def latency(name: str, description: str) -> Metric:
    """A time in milliseconds."""
    return Metric(name, "ms", Kind.ABSOLUTE, Direction.LOWER, Scope.DEVICE_CLASS, description)


def exact(name: str, unit: str, scope: Scope, description: str) -> Metric:
    """A deterministic metric."""
    return Metric(name, unit, Kind.EXACT, Direction.NONE, scope, description)


def bounded(name: str, unit: str, direction: Direction, description: str) -> Metric:
    """A metric whose values come with a bound: at most that where lower is better, else at least that."""
    return Metric(name, unit, Kind.EXACT, direction, Scope.ANY, description, is_bounded=True)


def share_of_peak(name: str, description: str) -> Metric:
    """Percent of what the device could do at most."""
    return replace(rate(name, description, "%"), needs_peaks=True)


def at_length(metric: Metric, length: int) -> Metric:
    """A metric of one length, such as `max_concurrency@4096`."""
    return replace(metric, name=f"{metric.name}@{length}")


GIB = 1 << 30

OUTPUT_THROUGHPUT = rate("output_throughput", "Generated tokens over the time from the first request to the last token")
TOTAL_TOKEN_THROUGHPUT = rate("total_token_throughput", "Prompt and generated tokens over the same time")
REQUEST_THROUGHPUT = rate(
    "request_throughput", "Completed requests over the time from the first request to the last token", "req/s"
)
RELATIVE_OUTPUT_THROUGHPUT = Metric(
    "relative_output_throughput",
    "ratio",
    Kind.RATIO,
    Direction.HIGHER,
    Scope.PLATFORM,
    "Output throughput over that of the model's full-attention reference in the same run and workload",
    of=OUTPUT_THROUGHPUT.name,
)
STATISTICS = ("mean", "median", "p90", "p95", "p99")
LATENCIES = {
    "ttft": "Time from sending a request to its first token",
    "tpot": "Time per output token after the first, one value a request",
    "itl": "Time between successive tokens of a request",
    "e2el": "Time from sending a request to its last token",
}
TOKEN_LATENCIES = {
    f"{statistic}_{name}_ms": latency(f"{statistic}_{name}_ms", description)
    for name, description in LATENCIES.items()
    for statistic in STATISTICS
}
"""The latencies of requests and tokens, named as `vllm bench serve` names them."""
PEAK_MEMORY = Metric(
    "peak_memory_bytes",
    "B",
    Kind.ABSOLUTE,
    Direction.LOWER,
    Scope.DEVICE_CLASS,
    "Most bytes allocated on the device beside the preallocated cache, of the fullest rank; on a CPU, most bytes "
    "resident in the engine process",
)
DEVICE_MEMORY = (
    Metric(
        "weight_memory_bytes",
        "B",
        Kind.ABSOLUTE,
        Direction.LOWER,
        Scope.DEVICE_CLASS,
        "Bytes of a rank's weights on its device",
        platforms=("cuda",),
    ),
    Metric(
        "activation_memory_bytes",
        "B",
        Kind.ABSOLUTE,
        Direction.LOWER,
        Scope.DEVICE_CLASS,
        "Most bytes that a step allocates beyond what stays allocated, of the fullest rank; not those of CUDA graphs",
        platforms=("cuda",),
    ),
    Metric(
        "cache_memory_bytes",
        "B",
        Kind.EXACT,
        Direction.NONE,
        Scope.DEVICE_CLASS,
        "Bytes of a rank's preallocated cache on its device",
        platforms=("cuda",),
    ),
)
"""Weights, activations and cache apart, of the fullest rank."""
MODEL_BYTES = exact("model_bytes", "B", Scope.ANY, "Bytes of the weights, before any kernel repacks them")
OUTPUT_TOKENS = exact("output_tokens", "tokens", Scope.ANY, "Tokens generated in one iteration")
SCHEDULER_STEPS = exact("scheduler_steps", "steps", Scope.PLATFORM, "Engine steps of one iteration")
KV_CACHE_BYTES = exact(
    "kv_cache_bytes", "B", Scope.PLATFORM, "Most bytes of cache blocks (keys, values, states) held at once"
)
OUTPUT_HASH = exact("output_hash", "", Scope.DEVICE_CLASS, "Hash of all generated token ids")
LEADING_TOKENS = replace(
    exact("leading_tokens", "", Scope.DEVICE_CLASS, "First token ids of the first generations"), is_tokens=True
)
"""In place of the hash where launches may compute with other kernels, which round in another way."""
