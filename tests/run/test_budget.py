"""What a run does with the time that its budget leaves."""

from __future__ import annotations

from collections import Counter

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.run.budget import Budget, fitting, seconds

OPEN_CELLS = Counter({"a": 3, "b": 20, "c": 11})
ALIKE = dict.fromkeys(OPEN_CELLS, 10.0)


@pytest.mark.parametrize(
    ("seconds_left", "expected"),
    [(100.0, ["b", "c", "a"]), (29.0, ["b", "c"]), (10.0, ["b"]), (9.0, []), (0.0, []), (-50.0, [])],
)
def test_engines_with_the_most_open_cells_get_the_launches_that_fit(seconds_left: float, expected: list[str]) -> None:
    fit = fitting(OPEN_CELLS, ALIKE, seconds_left)
    assert fit.chosen == expected
    assert fit.left_out == dict.fromkeys(OPEN_CELLS.keys() - set(expected), seconds_left - 10.0 * len(expected))


def test_one_that_does_not_fit_makes_way_for_those_after_it() -> None:
    fit = fitting(OPEN_CELLS, {"a": 5.0, "b": 20.0, "c": 30.0}, 28.0)
    assert (fit.chosen, fit.left_out) == (["b", "a"], {"c": 8.0})


def test_nothing_open_wants_nothing() -> None:
    fit = fitting(Counter(), {}, 100.0)
    assert (fit.chosen, fit.left_out) == ([], {})


def test_what_is_left_of_a_budget_is_passed_on_as_an_option_that_is_read() -> None:
    for given, expected in ((7200.0, 7200.0), (0.0, 1.0), (-5.0, 1.0)):
        assert seconds(Budget(given).option.removeprefix("--perf-budget="), "--perf-budget") == expected


@pytest.mark.parametrize("text", ["0s", "soon", "3d", "-1m", ""])
def test_a_time_that_is_none_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(InputError, match=f"^--budget: a time such as 90s, 15m or 2h, not '{text}'$"):
        seconds(text, "--budget")
