"""Serving: loads on an OpenAI-compatible server, measured by the field's load generator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.protocol import BENCH, LoadSample, ServedRequest
from hybrid_ops.errors import InputError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import (
    OUTPUT_THROUGHPUT,
    RELATIVE_OUTPUT_THROUGHPUT,
    REQUEST_THROUGHPUT,
    STATISTICS,
    TOKEN_LATENCIES,
    TOTAL_TOKEN_THROUGHPUT,
    Kind,
    Metric,
    Scope,
    exact,
    rate,
)
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, Summary, workload_of
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.datafiles import UsableData, find_data_file, fingerprint, usable_data
from hybrid_ops.workloads.serving import ServingWorkload

COUNTS = ("completed", "failed", "total_input_tokens", "total_output_tokens")
UNJUDGED = ("duration", "failed", "total_output_tokens")
"""Values that are recorded for the result block though no cell compares them."""
GOODPUT = rate("request_goodput", "Requests within the load's service-level objective, over the same time", "req/s")
TOTAL_OUTPUT_TOKENS = exact("total_output_tokens", "tokens", Scope.ANY, "Tokens generated in one iteration")
SERVING_METRICS = (
    REQUEST_THROUGHPUT,
    OUTPUT_THROUGHPUT,
    TOTAL_TOKEN_THROUGHPUT,
    GOODPUT,
    *TOKEN_LATENCIES.values(),
    RELATIVE_OUTPUT_THROUGHPUT,
    exact("completed", "requests", Scope.ANY, "Requests that gave all their tokens; one less is not a measurement"),
    exact("total_input_tokens", "tokens", Scope.ANY, "Prompt tokens of one iteration, as the server counts them"),
    TOTAL_OUTPUT_TOKENS,
)
"""Named as `vllm bench serve` names them."""
BETWEEN_TOKENS = {f"{statistic}_{name}_ms" for statistic in STATISTICS for name in ("tpot", "itl")}


class Serving(Procedure):
    """A load on a server of its own, or on the one that `--perf-server` names."""

    name: ClassVar[str] = "serving"
    section: ClassVar[str] = "serving"
    definition_type: ClassVar[type[Definition]] = ServingWorkload
    operations: ClassVar[frozenset[str]] = frozenset({BENCH.name})
    metrics: ClassVar[tuple[Metric, ...]] = SERVING_METRICS
    fixture: ClassVar[str] = "serving_cell"
    pace: ClassVar[str | None] = OUTPUT_THROUGHPUT.name
    tokens_value: ClassVar[str | None] = "total_output_tokens"
    headline: ClassVar[tuple[str, ...]] = (OUTPUT_THROUGHPUT.name, "median_ttft_ms", "median_itl_ms")
    details_key: ClassVar[str | None] = "loads"

    def cases(self, asked: Asked) -> list[Case]:
        workload = asked.definition
        assert isinstance(workload, ServingWorkload)
        spec = asked.spec(arguments=workload.arguments, environment=workload.environment)
        return [Case(spec, asked.name, workload, self, asked.data_folder)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        workload = workload_of(case, ServingWorkload)
        left_out: set[str] = set()
        if not workload.goodput:
            left_out.add(GOODPUT.name)
        if not workload.ignore_eos:
            left_out.add(TOTAL_OUTPUT_TOKENS.name)  # the model's choice, which numerics may tip
        if workload.generation_tokens == 1:
            left_out |= BETWEEN_TOKENS
        return tuple(metric for metric in self.metrics if metric.name not in left_out)

    def definition(self, case: Case) -> list[str]:
        path = data_file(case)
        return [] if path is None else [fingerprint(path)]

    def notes(self, case: Case, folder: Path) -> list[str]:
        note = _usable_data(case, folder).note
        return [] if note is None else [note]

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        case, workload = iteration.case, workload_of(iteration.case, ServingWorkload)
        data = _usable_data(case, iteration.folder).path
        num_prompts = (workload.warmup_prompts if iteration.is_warmup else None) or workload.num_prompts
        options = workload.bench_arguments(data, num_prompts)
        sample = iteration.worker.ask(BENCH, iteration.patience, options=options, reset_prefix_cache=True)
        iteration.timed.append(sample.timed)
        wanted = [metric.name for metric in self.metrics_of(case) if metric.kind is not Kind.RATIO]
        return load_values(sample, wanted, num_prompts, workload.ignore_eos)

    def summarize(self, case: Case, iterations: Sequence[Mapping[str, Value]]) -> Summary:
        summary = super().summarize(case, iterations)
        if summary.values.get(GOODPUT.name) == 0:  # no rate to compare: a ratio to it has no meaning
            summary.absent[GOODPUT.name] = "no request met the service-level objective"
            del summary.values[GOODPUT.name]
        return summary

    def details(self, case: Case) -> dict[str, Any] | None:
        return case.workload.model_dump()


def data_file(case: Case) -> Path | None:
    """The file that a load reads its requests from; None if it needs none. It need not exist."""
    workload = workload_of(case, ServingWorkload)
    return None if workload.dataset_file is None else find_data_file(workload.dataset_file, case.data_folder)


def _usable_data(case: Case, folder: Path) -> UsableData:
    """The file that a load reads its requests from, if any. Raises NotAMeasurement for one that cannot be used."""
    path = data_file(case)
    if path is None:
        return UsableData(None)
    if not path.is_file():
        raise NotAMeasurement(f"no such data file: {path}; name its folder with --perf-data")
    try:
        is_sharegpt = workload_of(case, ServingWorkload).dataset == "sharegpt"
        return usable_data(path, folder) if is_sharegpt else UsableData(path)
    except InputError as error:
        raise NotAMeasurement(str(error)) from None


def load_values(sample: LoadSample, wanted: Sequence[str], num_prompts: int, ignore_eos: bool) -> dict[str, Value]:
    """The metrics called `wanted` of one load of `num_prompts` requests.

    Raises NotAMeasurement if any request failed, stopped short or is missing: the rest would look faster for it.
    """
    if len(sample.requests) != num_prompts:
        raise NotAMeasurement(f"the load had {len(sample.requests)} requests, not {num_prompts}")
    _refuse_failures(sample.requests)
    _refuse_short(sample.requests, ignore_eos)
    values: dict[str, Value] = {}
    for name in (*wanted, *UNJUDGED):
        value = sample.result.get(name)
        if value is None or isinstance(value, str):
            raise NotAMeasurement(f"the load generator gave no {name}")
        if not math.isfinite(value) or (value <= 0 and name not in ("failed", GOODPUT.name)):
            raise NotAMeasurement(f"{name} is {value}")
        values[name] = int(value) if name in COUNTS else float(value)
    return values


def _refuse_failures(requests: Sequence[ServedRequest]) -> None:
    failed = [request for request in requests if not request.success]
    if failed:
        # The load generator gives a whole traceback where the connection broke; its last line says why.
        reasons = Counter(request.error.strip().rpartition("\n")[2] or "no reason given" for request in failed)
        reason, _ = reasons.most_common(1)[0]
        raise NotAMeasurement(f"{len(failed)} of {len(requests)} requests failed: {reason}")


def _refuse_short(requests: Sequence[ServedRequest], ignore_eos: bool) -> None:
    uncounted = sum(request.generated is None for request in requests)
    if uncounted:
        raise NotAMeasurement(f"{uncounted} of {len(requests)} streams ended without the server's count of tokens")
    wrong = [
        request
        for request in requests
        if request.generated is not None
        and (request.generated > request.expected or (ignore_eos and request.generated < request.expected))
    ]
    if wrong:
        first = wrong[0]
        raise NotAMeasurement(
            f"{len(wrong)} of {len(requests)} requests gave another number of tokens than they were told to, such as "
            f"{first.generated} for {first.expected}"
        )
