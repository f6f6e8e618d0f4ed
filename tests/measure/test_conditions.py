"""The monitor sees what really runs beside it, and each limit is told in words."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import psutil
import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.measure.conditions import ConditionMonitor, Limits, violations

FIT = {
    "foreign_cpu_share": 0.01,
    "least_memory_available_share": 0.5,
    "most_memory_pressure_percent": 0.0,
    "gpu": {"most_foreign_processes": 0, "slowdowns": {}},
}


def spin(seconds: float, used: Connection) -> None:
    """Compute for so long, and tell the processor seconds that it took."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    used.send(time.process_time())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"foreign_cpu_share": 0.43}, "other processes used 43% of the processors (limit 5%)"),
        ({"least_memory_available_share": 0.01}, "only 1.0% of the memory was available (limit 5%)"),
        ({"most_memory_pressure_percent": 40.0}, "tasks waited for memory 40 % of the time (limit 10 %)"),
        ({"gpu": {"most_foreign_processes": 2, "slowdowns": {}}}, "2 other processes computed on the GPU"),
        (
            {"gpu": {"most_foreign_processes": 0, "slowdowns": {"thermal slow-down by the hardware": 0.5}}},
            "thermal slow-down by the hardware in 50% of the samples (limit 5%)",
        ),
    ],
)
def test_each_limit_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert violations(FIT, "cpu", Limits()) == []
    assert violations({**FIT, **changes}, "cpu", Limits()) == [words]


def test_what_a_gpu_does_not_tell_violates_nothing() -> None:
    unknown = {"most_foreign_processes": None, "slowdowns": None, "limited_clocks": None, "power_limit_w": None}
    assert violations({**FIT, "gpu": unknown}, "cuda", Limits()) == []


def test_a_watch_that_fails_is_a_violation_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> float:
        raise OSError("no such table")

    monkeypatch.setattr("hybrid_ops.measure.conditions._memory_pressure", broken)
    with ConditionMonitor(cpu(), [], Limits()) as monitor:
        pass
    assert monitor.conditions.violations == ["the machine could not be watched: OSError: no such table"]


def test_foreign_load_does_not_matter_to_an_engine_on_a_gpu() -> None:
    assert violations({**FIT, "foreign_cpu_share": 0.9}, "cuda", Limits()) == []


def test_the_runs_own_processes_are_not_foreign() -> None:
    spawning = multiprocessing.get_context("spawn")
    told, telling = spawning.Pipe(duplex=False)
    process = spawning.Process(target=spin, args=(3.0, telling))
    with ConditionMonitor(cpu(), [], Limits()) as monitor:
        process.start()
        process.join()
    own = told.recv() / (psutil.cpu_count() or 1)
    seen = monitor.conditions.seen
    assert own > 0.2
    # Its last moments may be counted late on a busy machine, but never most of it.
    assert seen["foreign_cpu_share"] <= 1 - 0.8 * own / seen["seconds"]
    assert 0 < seen["least_memory_available_share"] <= 1
