"""The time that remains comes from what launches took: of this run, else of the newest earlier one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybrid_ops.run.progress import LaunchTimes, Step, StepTeller, is_step
from hybrid_ops.run.rounds import PlannedLaunch, Round
from tests.run.launches import record


def write_earlier(results: Path, run: str, engine: str, seconds: float, **cases: float) -> None:
    path = results / run / "launches" / engine / "1" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"seconds": seconds, "cases": {name: {"seconds": own} for name, own in cases.items()}}))


def test_nothing_is_known_before_anything_was_measured(tmp_path: Path) -> None:
    times = LaunchTimes(tmp_path / "now", is_pair=False)
    assert times.together([("a", ["short"])]) is None
    assert times.together([]) == 0


def test_a_launch_takes_its_loading_and_its_cases(tmp_path: Path) -> None:
    times = LaunchTimes(tmp_path / "now", is_pair=False)
    times.learn(record("a", 10.0, short=2.0, long=6.0))
    assert times.expected("a", ["short"]) == pytest.approx(12)
    assert times.expected("a", ["short", "long"]) == pytest.approx(18)
    assert times.expected("a", ["short", "new"]) == pytest.approx(16), "as long as the others"
    assert times.expected("b", ["short"]) is None
    both = [("a", ["short"]), ("b", ["short"])]
    assert times.together(both) == pytest.approx(24), "an unknown engine is as slow as the others"


def test_an_earlier_run_tells_until_this_one_does(tmp_path: Path) -> None:
    write_earlier(tmp_path, "1", "a", 90.0, short=80.0)
    write_earlier(tmp_path, "2", "a", 30.0, short=20.0)
    write_earlier(tmp_path, "3", "other", 5.0)
    broken = tmp_path / "4" / "launches" / "a" / "1" / "record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    times = LaunchTimes(tmp_path / "5", is_pair=False)
    assert times.expected("a", ["short"]) == pytest.approx(30), "the newest that can be read"
    pairs = LaunchTimes(tmp_path / "5", is_pair=True)
    assert pairs.expected("a", ["short"]) is None, "a launch pair is another thing"
    times.learn(record("a", 1.0, short=2.0))
    assert times.expected("a", ["short"]) == pytest.approx(3)


def test_a_step_says_what_is_done_and_left(tmp_path: Path) -> None:
    times = LaunchTimes(tmp_path / "now", is_pair=False)
    times.learn(record("a", 100.0, short=200.0))
    planned = [PlannedLaunch(name, 1, ["short"], []) for name in "abc"]
    told: list[str] = []
    tell = StepTeller(told.append, times, Round(2, planned), planned[1], planned[1:], at_once=2)
    tell("short (1 of 1)")
    assert told == ["[round 2: 1 done, 2 left, about 5.0 min] b: short (1 of 1)"]
    assert is_step(told[0]) and not is_step("b: failed: no kernel")
    assert str(Step(1, 0, 3, None, "a", "loading")) == "[round 1: 0 done, 3 left, no time known yet] a: loading"
