"""From raw samples to metrics, on samples small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hybrid_ops.engines.protocol import GeneratedRequest, GenerationSample, RankMemory
from hybrid_ops.measure.procedures.generation import device_memory_values, generation_values
from hybrid_ops.measure.values import NotAMeasurement, summarize_launch


def sample(**changes: Any) -> GenerationSample:
    """Two requests of 4 prompt and 3 generated tokens: prefill in 0.2 s, then two decode steps of 0.1 s."""
    seen = GenerationSample(
        elapsed_seconds=0.4,
        prompt_tokens=8,
        cached_tokens=0,
        requests=[GeneratedRequest([0.2, 0.3, 0.4]), GeneratedRequest([0.2, 0.3, 0.4])],
        steps=[(0.2, 2), (0.1, 2), (0.1, 2)],
        model_steps=3,
        output_hash="ab",
        leading_tokens=[[5, 6, 7], [8, 9, 10]],
        peak_blocks=2,
        peak_memory_bytes=1000,
        ranks=[],
        kernel_choices={},
    )
    return replace(seen, **changes)


def test_rates_and_times() -> None:
    values = generation_values(sample(), expected_tokens=3)
    assert values["output_throughput"] == pytest.approx(6 / 0.4)
    assert values["prefill_throughput"] == pytest.approx(8 / 0.2)
    assert values["decode_throughput"] == pytest.approx(4 / 0.2)
    assert values["median_ttft_ms"] == pytest.approx(200)
    assert [values["median_itl_ms"], values["p99_itl_ms"]] == pytest.approx([100, 100])
    assert values["median_tpot_ms"] == pytest.approx(100)
    assert values["median_step_ms"] == pytest.approx(100)  # the prefill step does not count
    assert values["median_e2el_ms"] == pytest.approx(400)
    assert (values["output_tokens"], values["scheduler_steps"]) == (6, 3)


def test_weights_activations_and_cache_are_those_of_the_fullest_rank() -> None:
    ranks = [RankMemory(weights=100, cache=900, graphs=7, activations=30), RankMemory(110, 900, 7, 20)]
    assert device_memory_values(sample(ranks=ranks)) == {
        "weight_memory_bytes": 110,
        "activation_memory_bytes": 30,
        "cache_memory_bytes": 900,
    }
    assert device_memory_values(sample()) == {}
    with pytest.raises(NotAMeasurement, match="activation_memory_bytes is 0"):
        device_memory_values(sample(ranks=[RankMemory(100, 900, 7, activations=0)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"requests": [GeneratedRequest([0.2]), GeneratedRequest([0.2, 0.3, 0.4])]},
            "1 of 2 requests gave 1",
        ),
        ({"requests": [GeneratedRequest([]), GeneratedRequest([])]}, "2 of 2 requests gave 0 tokens, not 3"),
        ({"peak_memory_bytes": 0}, "peak_memory_bytes is 0"),
        ({"elapsed_seconds": float("inf")}, "output_throughput is 0.0"),
        ({"prompt_tokens": float("nan")}, "prefill_throughput is nan"),
    ],
)
def test_what_is_not_a_measurement_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NotAMeasurement, match=message):
        generation_values(sample(**changes), expected_tokens=3)


def test_a_launch_is_the_median_of_its_iterations() -> None:
    iterations = [{"time_ms": value, "tokens": 5} for value in (3.0, 100.0, 1.0)]
    assert summarize_launch(iterations, {"tokens"}) == {"time_ms": 3.0, "tokens": 5}


def test_an_exact_metric_that_does_not_repeat_is_refused() -> None:
    with pytest.raises(NotAMeasurement, match=r"tokens must repeat exactly but was \['5', '6'\]"):
        summarize_launch([{"tokens": 5}, {"tokens": 6}], {"tokens"})
