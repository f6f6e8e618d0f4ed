"""From what a load generator saw to metrics: what is refused, and where a sweep has its knee."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_ops.engines.protocol import LoadSample, ServedRequest
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_server import VllmServer
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.knee import SweepPoint, knee
from hybrid_ops.measure.metrics import Kind
from hybrid_ops.measure.procedures import read_suites
from hybrid_ops.measure.procedures.serving import Serving, load_values
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.report.published.document import read_documents
from hybrid_ops.workloads.serving import ServingWorkload

LOAD = ServingWorkload(description="two", prompt_tokens=8, generation_tokens=4, num_prompts=2, goodput={"ttft": 10})
SPEC = EngineSpec("llama-tiny", load_zoo()["llama-tiny"], "cpu", VllmServer())
MEASURED = [
    metric.name for metric in Serving().metrics_of(Case(SPEC, "load", LOAD, Serving())) if metric.kind is not Kind.RATIO
]


def summarize_load(sample: LoadSample, load: ServingWorkload, num_prompts: int) -> dict[str, Value]:
    return load_values(sample, MEASURED, num_prompts, load.ignore_eos)


def sample(requests: list[dict[str, Any]] | None = None, **changes: Any) -> LoadSample:
    """What the worker gives for two requests that did all they were told to."""
    good = {"success": True, "error": "", "expected": 4, "generated": 4}
    result: dict[str, Any] = dict.fromkeys(MEASURED, 1.5)
    result |= {"completed": 2, "failed": 0, "total_input_tokens": 16, "total_output_tokens": 8, "duration": 0.5}
    return LoadSample(
        result={**result, **changes},
        requests=[ServedRequest(**{**good, **request}) for request in requests or [{}, {}]],
        timed=(0.0, 0.5),
    )


def test_a_good_load_gives_every_metric() -> None:
    values = summarize_load(sample(), LOAD, 2)
    assert set(MEASURED) <= values.keys()
    assert (values["completed"], values["failed"], values["total_output_tokens"]) == (2, 0, 8)
    assert all(type(values[name]) is int for name in ("completed", "failed", "total_output_tokens"))


def test_no_goodput_is_a_result() -> None:
    assert summarize_load(sample(request_goodput=0.0), LOAD, 2)["request_goodput"] == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sample([{}]), "the load had 1 requests, not 2"),
        (sample([{}, {"success": False, "error": "Traceback\n  File\nClientPayloadError: 400"}]),
         "1 of 2 requests failed: ClientPayloadError: 400"),
        (sample([{"success": False}, {"success": False}]), "2 of 2 requests failed: no reason given"),
        (sample([{}, {"generated": None}]), "1 of 2 streams ended without the server's count of tokens"),
        (sample([{}, {"generated": 3}]), "1 of 2 requests gave another number of tokens .* such as 3 for 4"),
        (sample([{}, {"generated": 5}]), "1 of 2 requests gave another number of tokens .* such as 5 for 4"),
        (sample(mean_ttft_ms=0.0), "mean_ttft_ms is 0.0"),
        (sample(output_throughput=float("nan")), "output_throughput is nan"),
        (sample(p99_itl_ms=None), "the load generator gave no p99_itl_ms"),
    ],
)  # fmt: skip
def test_what_is_not_a_measurement_is_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(NotAMeasurement, match=message):
        summarize_load(bad, LOAD, 2)


def test_fewer_tokens_are_the_models_choice_where_it_may_stop() -> None:
    free = LOAD.model_copy(update={"ignore_eos": False})
    assert summarize_load(sample([{}, {"generated": 3}]), free, 2)["completed"] == 2
    with pytest.raises(NotAMeasurement, match="5 for 4"):
        summarize_load(sample([{}, {"generated": 5}]), free, 2)


def published_sweep() -> list[SweepPoint]:
    """The RTX PRO 6000 benchmark's loads with a limit: requests a second, and mean TTFT + (tokens - 1) · mean TPOT."""
    document = read_documents()["rtx_pro_6000_benchmarks"]
    points = []
    for table in document.tables:
        if table.form == "serving" and table.facts.workload != "serving-sharegpt-cunlimited":
            values = {figure.facts.metric: figure.value for figure in document.figures(table)}
            tokens = values["total_output_tokens"] / values["completed"]
            latency = values["mean_ttft_ms"] + (tokens - 1) * values["mean_tpot_ms"]
            points.append(SweepPoint(f"{values['max_concurrency']:.0f}", values["request_throughput"], latency))
    return points


def test_the_knee_of_the_published_sweep() -> None:
    points = published_sweep()
    assert len(points) == 5
    found = knee(points)
    assert found is not None
    assert found.label == "128"


def test_two_points_have_no_knee() -> None:
    assert knee([SweepPoint("1", 1, 1), SweepPoint("2", 2, 1)]) is None


def test_the_shipped_loads_are_the_published_ones() -> None:
    suites = read_suites()
    serving = suites.of_kind(ServingWorkload)
    long = serving["serving-8k-1k"]
    assert (long.prompt_tokens, long.generation_tokens, long.num_prompts, long.max_concurrency) == (8192, 1024, 512, 32)
    points = [name for name in suites.suites["serving-published"] if name.startswith("serving-sharegpt-")]
    assert [serving[name].max_concurrency for name in points] == ["unlimited", 32, 64, 128, 256, 512]
    assert {serving[name].num_prompts for name in points} == {1000}
