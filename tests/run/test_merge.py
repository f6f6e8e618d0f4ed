"""What shards say of one thing, as one: rounds, the device, its peaks, the command."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.errors import InputError
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.regression.cost import LeftOut
from hybrid_ops.regression.results import DeviceResult
from hybrid_ops.run.merge import joined_device, joined_peaks, joined_rounds, whole_command
from hybrid_ops.run.rounds import PlannedLaunch, Round

FLOPS = {"float32": 1e11}


def launch(name: str, index: int) -> PlannedLaunch:
    return PlannedLaunch(name, index, [f"{name}/short"], [f"{name}/short-x"])


def left_out(name: str) -> LeftOut:
    return LeftOut(engine=name, cells=[f"{name}/short-x"], launch_seconds=9.0, seconds_left=1.0)


def test_rounds_lie_beside_each_other_and_the_last_has_all_that_was_left_out() -> None:
    first = [Round(1, [launch("a", 1)]), Round(2, [launch("a", 2)]), Round(3, [])]
    second = [Round(1, [launch("b", 1), launch("c", 1)]), Round(2, [], [left_out("b")])]
    joined = joined_rounds([first, second])
    assert [one.number for one in joined] == [1, 2, 3]
    assert [[(made.launch_name, made.index) for made in one.launches] for one in joined] == [
        [("a", 1), ("b", 1), ("c", 1)],
        [("a", 2)],
        [],
    ]
    assert [one.engine for one in joined[-1].left_out] == ["b"]


def device(**other: Any) -> DeviceResult:
    facts = {"platform": "cuda", "name": "card", "class": "card", "uuid": "1", "cores": 8, "memory_bytes": 1}
    return DeviceResult.model_validate({**facts, "kernel": "6", "settings": {"power_limit_w": 700.0}, **other})


def test_the_device_has_what_all_machines_have() -> None:
    joined = joined_device([device(), device(uuid="2", settings={"power_limit_w": 600.0})], None)
    assert (joined.uuid, joined.cores, joined.settings) == (None, 8, {"power_limit_w": None})
    assert joined_device([device()], None) == device()


def shard(peaks: DevicePeaks | None) -> Any:
    return SimpleNamespace(results=SimpleNamespace(device=device(peaks=peaks)))


def options(update: bool) -> Any:
    return SimpleNamespace(update=update, class_folder=Path("perf_baselines", cpu().device_class))


def peaks(bandwidth: float = 1e10, **flops: float) -> DevicePeaks:
    return DevicePeaks("cpu", {**FLOPS, **flops}, bandwidth, None, "measured")


def test_peaks_are_joined_where_they_agree() -> None:
    assert joined_peaks([shard(None), shard(None)], options(update=True)) is None
    joined = joined_peaks([shard(None), shard(peaks()), shard(peaks(bfloat16=2e11))], options(update=True))
    assert joined == peaks(bfloat16=2e11)
    assert joined_peaks([shard(peaks()), shard(peaks(float32=2e11))], options(update=False)) is None
    with pytest.raises(InputError, match=r"peaks\.json: each shard has measured other peaks: record them by an update"):
        joined_peaks([shard(peaks()), shard(peaks(2e10))], options(update=True))


@pytest.mark.parametrize(
    "own", ["--perf-shard 1/3 --perf-run-id=a", "--perf-run-id a --perf-shard=1/3", "--perf-shard=1/3"]
)
def test_the_command_of_the_whole_is_that_of_a_shard_without_its_own_options(own: str) -> None:
    made: Any = SimpleNamespace(command=f"pytest --perf {own} -k 'a or b'")
    assert whole_command(made) == "pytest --perf -k 'a or b'"
