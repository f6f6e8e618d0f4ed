"""From what a load generator saw to the values of metrics, and the knee of a concurrency sweep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_ops.measure.generation import NotAMeasurement, Value
from hybrid_ops.measure.metrics import Kind, metrics_of
from hybrid_ops.workloads.serving import ServingWorkload

COUNTS = ("completed", "failed", "total_input_tokens", "total_output_tokens")
UNJUDGED = ("duration", "failed", "total_output_tokens")
"""Values that are recorded for the result block though no cell compares them."""


def summarize_load(sample: dict[str, Any], workload: ServingWorkload, num_prompts: int) -> dict[str, Value]:
    """Metrics of one load from a worker's sample (see `ServerWorker.bench`).

    Raises NotAMeasurement if any request failed, stopped short or is missing: the rest would look faster for it.
    """
    requests, result = sample["requests"], sample["result"]
    if len(requests) != num_prompts:
        raise NotAMeasurement(f"the load had {len(requests)} requests, not {num_prompts}")
    _refuse_failures(requests)
    _refuse_short(requests, workload.ignore_eos)
    values: dict[str, Value] = {}
    for name in (*(metric.name for metric in metrics_of(workload) if metric.kind is not Kind.RATIO), *UNJUDGED):
        value = result.get(name)
        if value is None:
            raise NotAMeasurement(f"the load generator gave no {name}")
        if not math.isfinite(value) or (value <= 0 and name not in ("failed", "request_goodput")):
            raise NotAMeasurement(f"{name} is {value}")
        values[name] = int(value) if name in COUNTS else float(value)
    return values


def _refuse_failures(requests: Sequence[dict[str, Any]]) -> None:
    failed = [request for request in requests if not request["success"]]
    if failed:
        # The load generator gives a whole traceback where the connection broke; its last line says why.
        reasons = Counter(request["error"].strip().rpartition("\n")[2] or "no reason given" for request in failed)
        reason, _ = reasons.most_common(1)[0]
        raise NotAMeasurement(f"{len(failed)} of {len(requests)} requests failed: {reason}")


def _refuse_short(requests: Sequence[dict[str, Any]], ignore_eos: bool) -> None:
    uncounted = sum(request["generated"] is None for request in requests)
    if uncounted:
        raise NotAMeasurement(f"{uncounted} of {len(requests)} streams ended without the server's count of tokens")
    wrong = [
        request
        for request in requests
        if request["generated"] > request["expected"] or (ignore_eos and request["generated"] < request["expected"])
    ]
    if wrong:
        first = wrong[0]
        raise NotAMeasurement(
            f"{len(wrong)} of {len(requests)} requests gave another number of tokens than they were told to, such as "
            f"{first['generated']} for {first['expected']}"
        )


@dataclass(frozen=True)
class SweepPoint:
    """One load of a concurrency sweep."""

    label: str
    throughput: float
    """Completed requests a second."""
    latency_ms: float
    """Mean end-to-end latency."""

    @property
    def power(self) -> float:
        """Throughput over latency: more is better, and neither alone raises it without end."""
        return self.throughput / self.latency_ms


def knee(points: Sequence[SweepPoint]) -> SweepPoint | None:
    """The point of a sweep beyond which latency grows faster than throughput; None for fewer than three points.

    It is the point of the greatest power, throughput over latency (L. Kleinrock, "Power and deterministic rules of
    thumb for probabilistic problems in computer communications", ICC 1979).
    """
    return max(points, key=lambda point: point.power) if len(points) >= 3 else None
