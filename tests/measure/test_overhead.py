"""What the comparison of the suite with `vllm bench serve` by hand concludes."""

from __future__ import annotations

import math
import random

import pytest

from hybrid_ops.cli import main
from hybrid_ops.measure.overhead import LEAST_ROUNDS, Overhead, compare_ways


def compared(cost: float, noise: float, rounds: int) -> Overhead:
    """A suite that is slower by `cost`, on a machine whose runs vary by `noise` (both of log values)."""
    source = random.Random(7)

    def runs(level: float) -> list[dict[str, float]]:
        return [{"output_throughput": 1000 * math.exp(level + source.gauss(0, noise))} for _ in range(2)]

    return compare_ways("output_throughput", [{"suite": runs(-cost), "hand": runs(0.0)} for _ in range(rounds)])


def test_no_cost_is_found_within_the_noise() -> None:
    found = compared(cost=0.0, noise=0.05, rounds=20)
    assert found.is_within_noise and not found.is_beyond_noise
    assert found.noise == pytest.approx(0.05 * math.sqrt(2), rel=0.4)


def test_a_cost_of_several_times_the_noise_is_beyond_it() -> None:
    found = compared(cost=0.3, noise=0.02, rounds=LEAST_ROUNDS)
    assert found.is_beyond_noise and not found.is_within_noise
    assert found.difference == pytest.approx(-0.3, abs=0.03)
    assert found.suite / found.by_hand == pytest.approx(math.exp(-0.3), rel=0.05)


def test_a_cost_near_the_noise_is_left_open() -> None:
    found = compared(cost=0.05, noise=0.05, rounds=LEAST_ROUNDS)
    assert not found.is_within_noise and not found.is_beyond_noise
    assert found.interval[0] <= found.difference <= found.interval[1]


def test_too_few_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overhead", "llama-tiny", "--rounds", "5"]) == 2
    assert "--rounds: at least 6" in capsys.readouterr().err
