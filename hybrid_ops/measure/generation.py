"""From the raw samples of generation iterations to the values of metrics."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import mean, median
from typing import Any

import numpy as np

Value = float | int | str
"""A metric's value: a number, or a hash."""


class NotAMeasurement(ValueError):
    """A sample that must not count: incomplete, zero, not finite, or not repeatable where it has to be."""


def summarize_iteration(sample: dict[str, Any], expected_tokens: int) -> dict[str, Value]:
    """Metrics of one iteration from a worker's raw sample (see `VllmWorker.generate`).

    `expected_tokens` is the number of tokens that each request was told to generate; fewer is not a measurement.
    Rates are in tokens per second, times in milliseconds.
    """
    arrivals = [request["token_arrivals"] for request in sample["requests"]]
    short = [len(times) for times in arrivals if len(times) != expected_tokens]
    if short:
        raise NotAMeasurement(f"{len(short)} of {len(arrivals)} requests gave {short[0]} tokens, not {expected_tokens}")
    elapsed = sample["elapsed_seconds"]
    first_tokens = [times[0] for times in arrivals]
    last_tokens = [times[-1] for times in arrivals]
    output_tokens = sum(map(len, arrivals))
    latencies = [1e3 * seconds for seconds in last_tokens]
    values: dict[str, Value] = {
        "output_throughput": output_tokens / elapsed,
        "prefill_throughput": sample["prompt_tokens"] / max(first_tokens),
        "total_token_throughput": (sample["prompt_tokens"] + output_tokens) / elapsed,
        "request_throughput": len(arrivals) / elapsed,
        "median_ttft_ms": 1e3 * median(first_tokens),
        "mean_e2el_ms": mean(latencies),
        **_percentiles("e2el_ms", latencies),
        "peak_memory_bytes": sample["peak_memory_bytes"],
        "output_tokens": output_tokens,
        "scheduler_steps": len(sample["steps"]),
        "output_hash": sample["output_hash"],
    }
    if expected_tokens > 1:
        gaps = [1e3 * (after - before) for times in arrivals for before, after in pairwise(times)]
        per_token = [1e3 * (times[-1] - times[0]) / (len(times) - 1) for times in arrivals]
        # A step puts out a token for each running request; those before the last first token also prefill.
        decode_steps = [1e3 * seconds for seconds, _ in sample["steps"][_prefill_steps(sample) :]]
        values["decode_throughput"] = (output_tokens - len(arrivals)) / (max(last_tokens) - min(first_tokens))
        values["median_tpot_ms"] = median(per_token)
        values |= _percentiles("itl_ms", gaps)
        values |= _percentiles("step_ms", decode_steps)
    for name, value in values.items():
        if not isinstance(value, str) and not (math.isfinite(value) and value > 0):
            raise NotAMeasurement(f"{name} is {value}")
    return values


def summarize_launch(iterations: list[dict[str, Value]], exact: set[str]) -> dict[str, Value]:
    """One value a metric for a launch: the median of its timed iterations.

    The metrics named in `exact` must be the same in each of them, or the launch is not a measurement.
    """
    values: dict[str, Value] = {}
    for name in iterations[0]:
        seen = [iteration[name] for iteration in iterations]
        if name in exact:
            if len(set(seen)) != 1:
                different = sorted(set(map(str, seen)))
                raise NotAMeasurement(f"{name} must repeat exactly but was {different} within a launch")
            values[name] = seen[0]
        else:
            values[name] = median(float(value) for value in seen)
    return values


def _prefill_steps(sample: dict[str, Any]) -> int:
    """The number of leading steps in which some request still got its first token or none."""
    missing = len(sample["requests"])
    put_out = 0
    for count, (_, tokens) in enumerate(sample["steps"], start=1):
        put_out += tokens
        if tokens == missing and put_out >= missing:
            return count
    return len(sample["steps"])


def _percentiles(suffix: str, milliseconds: list[float]) -> dict[str, Value]:
    """Median, p90, p95 and p99, by linear interpolation as in vLLM's own benchmarks."""
    return {
        f"{'median' if percent == 50 else f'p{percent}'}_{suffix}": float(np.percentile(milliseconds, percent))
        for percent in (50, 90, 95, 99)
    }
