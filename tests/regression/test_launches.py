"""What single launches and neighbouring cells tell: warm-up, outliers, reading across."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.measure.metrics import Direction
from hybrid_ops.measure.warmup import warm_up
from hybrid_ops.regression.crosscell import FindingKind, Reading, read_across
from hybrid_ops.regression.outliers import outlier_launches


def iterations(source: random.Random, count: int = 30, noise: float = 0.05) -> list[float]:
    return [10 * math.exp(source.gauss(0, noise)) for _ in range(count)]


def test_early_iterations_that_drift_are_found():
    source = random.Random(1)
    for _ in range(100):
        samples = iterations(source)
        for index, slower in enumerate((2.0, 1.6, 1.4)):
            samples[index] *= slower
        found = warm_up(samples)
        assert 3 <= found.iterations <= 6


def test_a_settled_launch_loses_few_iterations():
    source = random.Random(2)
    lost = [warm_up(iterations(source)).iterations for _ in range(400)]
    assert sum(lost) / len(lost) < 0.5
    assert warm_up([10.0] * 30).iterations == 0


def test_a_slow_iteration_later_on_is_a_sample():
    samples = iterations(random.Random(3))
    samples[8] *= 3
    assert warm_up(samples).iterations <= 1


def test_a_launch_that_never_settles_is_said_to_drift():
    source = random.Random(4)
    samples = [value * 1.02**index for index, value in enumerate(iterations(source, noise=0.01))]
    found = warm_up(samples)
    assert found.drifting and found.drift > 0.1
    assert not warm_up(iterations(source)).drifting


@given(st.lists(st.floats(1e-3, 1e3), max_size=40), st.sampled_from([2.0**-20, 0.5, 2.0**30]))
def test_warm_up_knows_no_unit_and_leaves_half(samples, scale):
    found = warm_up(samples)
    assert found.iterations <= len(samples) / 2
    assert warm_up([value * scale for value in samples]).iterations == found.iterations


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_iteration_must_be_a_measurement(value):
    with pytest.raises(ValueError, match="no measurement"):
        warm_up([1.0] * 9 + [value])


def test_outlier_launches_are_named():
    [outlier] = outlier_launches([100, 101, 99, 100.5, 120], noise=0.01)
    assert (outlier.launch, outlier.value) == (4, 120)
    assert outlier.change == pytest.approx(120 / 100.5 - 1)
    assert outlier.deviations > 10


def test_noise_makes_no_outliers_of_few_launches():
    assert outlier_launches([100, 100.001, 101], noise=0.01) == []
    assert outlier_launches([100, 200], noise=0.01) == []
    assert outlier_launches([100, 100, 100], noise=0.0) == []
    source = random.Random(5)
    sets = [[100 * math.exp(source.gauss(0, 0.01)) for _ in range(5)] for _ in range(1000)]
    assert sum(bool(outlier_launches(values, noise=0.01)) for values in sets) <= 15


def reading(name: str, *current: float, direction: Direction = Direction.LOWER, spec: str = "llama") -> Reading:
    return Reading(name, spec, direction, [100.0, 100.5, 99.5, 100.2], current, 0.01)


def test_a_lone_outlier_beside_improving_siblings_is_pointed_out():
    [finding] = read_across(
        [
            reading("decode", 97, 96.8, 97.1),
            reading("prefill", 98, 97.7, 98.2),
            reading("c=1 ttft", 126, 125, 127),
            reading("throughput", 102, 103, 102.4, direction=Direction.HIGHER),
        ]
    )
    assert (finding.kind, finding.cells) == (FindingKind.LONE_OUTLIER, ("c=1 ttft",))
    assert "25.9% worse" in finding.text and "3 siblings" in finding.text


def test_a_common_change_is_reported_once():
    cells = [reading(f"case-{index}", 106, 105.5, 106.2) for index in range(4)]
    cells.append(reading("throughput", 94.2, 94.5, 94.1, direction=Direction.HIGHER))
    [finding] = read_across(cells)
    assert (finding.kind, len(finding.cells)) == (FindingKind.COMMON_CHANGE, 5)
    assert finding.badness == pytest.approx(0.058, abs=0.003)


def test_one_odd_launch_is_the_launchs():
    cells = [reading(f"case-{index}", 100, 100.2 + index / 10, 112, 99.8) for index in range(5)]
    [finding] = read_across(cells)
    assert (finding.kind, finding.launch) == (FindingKind.LAUNCH_CHANGE, 2)
    assert "Launch 3 of llama" in finding.text


def test_engine_specs_are_read_apart_and_calm_cells_say_nothing():
    calm = [reading(f"case-{index}", 100.3, 99.9, 100.1) for index in range(4)]
    slow = [reading(f"case-{index}", 110, 110.2, spec="falcon") for index in range(3)]
    assert [finding.spec for finding in read_across(calm + slow)] == ["falcon"]
    assert read_across([*calm[:2], reading("odd", 120, spec="alone")]) == []
