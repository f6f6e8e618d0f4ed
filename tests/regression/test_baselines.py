"""What a recorded cell stands for when it is judged."""

from __future__ import annotations

from statistics import geometric_mean

import pytest

from hybrid_ops.regression.baselines import CellBaseline

SKEWED = [187.688, 386.822, 345.404]
"""Launches of which one was far slower: their median is a quarter above their geometric mean."""


def test_recorded_launches_are_judged_as_they_were_measured() -> None:
    recorded = CellBaseline(value=geometric_mean(SKEWED), tolerance=0.2, launches=SKEWED)
    assert recorded.launch_values() == pytest.approx(SKEWED)


def test_a_value_edited_by_hand_is_what_is_compared_with() -> None:
    edited = CellBaseline(value=450.0, tolerance=0.2, launches=SKEWED)
    assert geometric_mean(edited.launch_values()) == pytest.approx(450.0)
    ratios = [after / before for after, before in zip(edited.launch_values(), SKEWED, strict=True)]
    assert ratios == pytest.approx([450.0 / geometric_mean(SKEWED)] * 3)
