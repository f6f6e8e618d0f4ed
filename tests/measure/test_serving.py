"""From what a load generator saw to metrics: what is refused, and where a sweep has its knee."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_ops.measure.generation import NotAMeasurement
from hybrid_ops.measure.metrics import Kind, metrics_of
from hybrid_ops.measure.serving import SweepPoint, knee, summarize_load
from hybrid_ops.workloads.serving import ServingWorkload
from hybrid_ops.workloads.workload import load_suites

LOAD = ServingWorkload(description="two", prompt_tokens=8, generation_tokens=4, num_prompts=2, goodput={"ttft": 10})


def sample(requests: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """What the worker gives for two requests that did all they were told to."""
    good = {"success": True, "error": "", "expected": 4, "generated": 4}
    result = {metric.name: 1.5 for metric in metrics_of(LOAD) if metric.kind is not Kind.RATIO}
    result |= {"completed": 2, "failed": 0, "total_input_tokens": 16, "total_output_tokens": 8, "duration": 0.5}
    return {"requests": [{**good, **request} for request in requests or [{}, {}]], "result": {**result, **changes}}


def test_a_good_load_gives_every_metric() -> None:
    values = summarize_load(sample(), LOAD, 2)
    assert {metric.name for metric in metrics_of(LOAD) if metric.kind is not Kind.RATIO} <= values.keys()
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


PUBLISHED = [  # requests/s and mean TTFT + (tokens - 1) · mean TPOT in ms, RTX PRO 6000 benchmark, ShareGPT
    ("32", 11.86, 2450), ("64", 19.52, 2690), ("128", 28.09, 3060), ("256", 32.89, 5040), ("512", 37.30, 7360),
]  # fmt: skip


def test_the_knee_of_the_published_sweep() -> None:
    found = knee([SweepPoint(label, rate, latency) for label, rate, latency in PUBLISHED])
    assert found is not None
    assert found.label == "128"


def test_two_points_have_no_knee() -> None:
    assert knee([SweepPoint("1", 1, 1), SweepPoint("2", 2, 1)]) is None


def test_the_shipped_loads_are_the_published_ones() -> None:
    serving = load_suites().serving
    long = serving["serving-8k-1k"]
    assert (long.prompt_tokens, long.generation_tokens, long.num_prompts, long.max_concurrency) == (8192, 1024, 512, 32)
    points = [name for name in load_suites().suites["serving-published"] if name.startswith("serving-sharegpt-")]
    assert [serving[name].max_concurrency for name in points] == ["unlimited", 32, 64, 128, 256, 512]
    assert {serving[name].num_prompts for name in points} == {1000}
