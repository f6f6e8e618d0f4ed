"""How a run is divided among shards: every launch once, what is compared together, and the longest shard bounded."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.errors import InputError
from hybrid_ops.run.division import divide, launch_groups, longest_first
from hybrid_ops.run.launch_seconds import (
    EngineSeconds,
    expected_seconds,
    read_launch_seconds,
    record_launch_seconds,
)
from hybrid_ops.run.shards import Shard, parse_shard
from tests.run.launches import record

NAMES = [f"engine-{letter}" for letter in "abcdefghij"]
SECONDS = st.dictionaries(
    st.sampled_from(NAMES).map(lambda name: (name,)), st.floats(0, 1e4, allow_nan=False), min_size=1, max_size=7
)


def cell(*launches: str) -> Any:
    """A cell that needs one case of each of these launches."""
    cases = [SimpleNamespace(id=f"{name}/short", spec=SimpleNamespace(launch_name=name)) for name in launches]
    return SimpleNamespace(cases=cases)


CELLS = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda names: cell(*names)), max_size=15)


@given(cells=CELLS, count=st.integers(1, 6), seconds=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1e3)))
def test_each_launch_is_on_one_shard_with_all_that_it_is_compared_with(
    cells: list[Any], count: int, seconds: dict[str, float]
) -> None:
    recorded = {name: EngineSeconds(loading=own, cases={}) for name, own in seconds.items()}
    parts = divide(cells, cells, recorded, count)
    assert len(parts) == count
    launches = sorted({case.spec.launch_name for one in cells for case in one.cases})
    assert sorted(name for part in parts for name in part) == launches
    for one in cells:
        needed = {case.spec.launch_name for case in one.cases}
        assert sum(needed <= set(part) for part in parts) == 1, f"{needed} in {parts}"
    assert divide(cells[::-1], cells[::-1], recorded, count) == parts, "whatever order the testcases have"


@given(seconds=SECONDS, count=st.integers(1, 3))
def test_the_longest_shard_is_within_the_bound_of_the_best_division(
    seconds: dict[tuple[str], float], count: int
) -> None:
    def longest(shards: Any) -> float:
        return max(sum(own for own, shard in zip(seconds.values(), shards) if shard == one) for one in range(count))

    best = min(longest(shards) for shards in product(range(count), repeat=len(seconds)))
    found = max(sum(seconds[group] for group in part) for part in longest_first(seconds, count))
    assert found <= (4 / 3 - 1 / (3 * count)) * best * (1 + 1e-9)


def test_groups_grow_together_through_what_they_share() -> None:
    groups = launch_groups([cell("d"), cell("a", "b"), cell("c"), cell("c", "b")])
    assert groups == [("a", "b", "c"), ("d",)]


def test_a_launch_without_a_recorded_time_is_taken_for_an_average_one() -> None:
    launches = {"a": ["a/short", "a/long"], "b": ["b/short"], "c": ["c/short", "c/long"]}
    assert expected_seconds({}, launches) == {"a": 2, "b": 1, "c": 2}, "by the number of cases"
    recorded = {"a": EngineSeconds(loading=10, cases={"a/short": 4}), "b": EngineSeconds(loading=5, cases={})}
    found = expected_seconds(recorded, launches)
    assert found == pytest.approx({"a": 18, "b": 5, "c": 2 * 23 / 3})


def test_recorded_times_stay_until_they_have_moved_much(tmp_path: Path) -> None:
    path = tmp_path / "class" / "launch_seconds.json"
    first = [record("a", 20.0, short=4.0), record("a", 30.0, short=4.0), record("b", 5.0, short=1.0)]
    record_launch_seconds(path, first, ["a"])
    assert read_launch_seconds(path) == {"a": EngineSeconds(loading=25.0, cases={"short": 4.0})}
    text = path.read_text()
    record_launch_seconds(path, [record("a", 30.0, short=5.0)], ["a"])
    assert path.read_text() == text
    record_launch_seconds(path, [record("a", 60.0, long=9.0)], ["a", "b"])
    assert read_launch_seconds(path) == {"a": EngineSeconds(loading=60.0, cases={"short": 4.0, "long": 9.0})}
    path.write_text('{"schema": 1, "engines": {"a": {"loading": -1, "cases": {}}}}')
    with pytest.raises(InputError, match=r"launch_seconds\.json: engines\.a\.loading: .*; remove the file, and the "):
        read_launch_seconds(path)


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "2/", "a/b", "-1/3", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--perf-shard: "):
        parse_shard(text)


def test_a_shard_is_a_number_of_so_many() -> None:
    assert parse_shard("2/3") == Shard(2, 3)
    assert str(Shard(2, 3)) == "2/3"
