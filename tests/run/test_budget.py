"""What a run does with the time that its budget leaves."""

from __future__ import annotations

from collections import Counter

import pytest

from hybrid_ops.run.budget import fitting

OPEN_CELLS = Counter({"a": 3, "b": 20, "c": 11})


@pytest.mark.parametrize(
    ("seconds_left", "expected"),
    [(100.0, ["b", "c", "a"]), (29.0, ["b", "c"]), (10.0, ["b"]), (9.0, []), (0.0, []), (-50.0, [])],
)
def test_engines_with_the_most_open_cells_get_the_launches_that_fit(seconds_left: float, expected: list[str]) -> None:
    assert fitting(OPEN_CELLS, [8.0, 12.0], seconds_left) == expected


def test_nothing_open_wants_nothing() -> None:
    assert fitting(Counter(), [], 100.0) == []
