"""What a launch's conditions say of a GPU: what was seen, what was refused, and what counts against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hybrid_ops.engines.devices import Device, gpus
from hybrid_ops.measure.conditions import ConditionMonitor, Conditions, Limits
from hybrid_ops.measure.environment import machine_facts, suite_versions
from hybrid_ops.measure.gpu import attributed
from tests.gpu import nvml_stub
from tests.gpu.nvml_stub import GPU_IS_LOST, NO_PERMISSION, StubCards


@pytest.fixture
def h100(cards: StubCards) -> Device:
    cards.add("GPU-1")
    return gpus()[0]


def watched(device: Device) -> Conditions:
    with ConditionMonitor(device, [], Limits()) as monitor:
        pass
    return monitor.conditions


def gpu_of(conditions: Conditions) -> dict[str, Any]:
    """What was seen of the GPU; `results.json` can hold it."""
    return json.loads(json.dumps(conditions.seen["gpu"]))


@pytest.fixture
def other_process() -> Iterator[int]:
    """A process that is nobody's child here."""
    parent = "from subprocess import DEVNULL, Popen\nprint(Popen(['sleep', '600'], stdout=DEVNULL, stderr=DEVNULL).pid)"
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    yield int(done.stdout)
    os.kill(int(done.stdout), signal.SIGKILL)


def test_a_fit_card_is_seen_whole(h100: Device) -> None:
    conditions = watched(h100)
    seen = gpu_of(conditions)
    assert conditions.violations == [] and seen["unchecked"] == {}
    assert (seen["most_temperature_c"], seen["mean_power_w"], seen["power_limit_w"]) == (41, 312.0, 700.0)
    assert (seen["least_sm_clock_mhz"], seen["least_memory_clock_mhz"]) == (1980, 2619)
    assert (seen["most_foreign_processes"], seen["most_unattributed_processes"]) == (0, 0)
    assert seen["settings"] == {
        "driver": "580.65.06",
        "cuda": "13.0",
        "persistence_mode": True,
        "ecc_mode": True,
        "mig_mode": False,
        "power_limit_w": 700.0,
        "default_power_limit_w": 700.0,
        "application_sm_clock_mhz": 1980,
        "application_memory_clock_mhz": 2619,
        "default_application_sm_clock_mhz": 1980,
        "default_application_memory_clock_mhz": 2619,
        "most_sm_clock_mhz": 1980,
        "most_memory_clock_mhz": 2619,
    }
    assert machine_facts(h100)["settings"] == seen["settings"]
    versions = suite_versions(h100)
    assert (versions["nvidia-driver"], versions["cuda-driver"]) == ("580.65.06", "13.0")


def test_a_power_cap_at_the_cards_own_limit_is_normal_and_below_it_a_violation(cards: StubCards, h100: Device) -> None:
    cards.set("0", clocks_event_reasons=nvml_stub.POWER_CAP)
    conditions = watched(h100)
    assert conditions.violations == []
    assert gpu_of(conditions)["limited_clocks"] == {"power cap in software": 1.0}
    cards.set("0", enforced_power_limit=500_000)
    assert watched(h100).violations == [
        "power cap in software in 100% of the samples (limit 5%) at a power limit of 500 W, below the card's own 700 W"
    ]
    cards.set("0", clocks_event_reasons=0)
    assert watched(h100).violations == []  # the lower limit was never reached
    cards.set("0", clocks_event_reasons=nvml_stub.POWER_CAP, default_power_limit=None)
    conditions = watched(h100)
    assert conditions.violations == []
    assert gpu_of(conditions)["unchecked"] == {"default_power_limit_w": "Not Supported"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (nvml_stub.HARDWARE_SLOWDOWN, "slow-down by the hardware"),
        (nvml_stub.THERMAL_SLOWDOWN, "thermal slow-down by the hardware"),
    ],
)
def test_a_slow_down_is_a_violation(cards: StubCards, h100: Device, reason: int, words: str) -> None:
    cards.set("0", clocks_event_reasons=reason)
    assert watched(h100).violations == [f"{words} in 100% of the samples (limit 5%)"]


def test_a_slow_down_that_begins_during_the_launch_is_seen(cards: StubCards, h100: Device) -> None:
    with ConditionMonitor(h100, [], Limits()) as monitor:
        cards.set("0", clocks_event_reasons=nvml_stub.THERMAL_SLOWDOWN, sm_clock=1200)
    assert gpu_of(monitor.conditions)["least_sm_clock_mhz"] == 1200
    assert monitor.conditions.violations


FIELDS = {
    "temperature": ("most_temperature_c", "temperature_c"),
    "power_usage": ("mean_power_w", "power_w"),
    "sm_clock": ("least_sm_clock_mhz", "sm_clock_mhz"),
    "memory_clock": ("least_memory_clock_mhz", "memory_clock_mhz"),
    "clocks_event_reasons": ("slowdowns", "reasons"),
    "processes": ("most_foreign_processes", "processes"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_may_be_refused_and_the_others_are_seen(cards: StubCards, h100: Device, field: str) -> None:
    cards.refuse("0", NO_PERMISSION, field)
    conditions = watched(h100)
    seen = gpu_of(conditions)
    shown, name = FIELDS[field]
    assert conditions.violations == []
    assert seen[shown] is None
    assert seen["unchecked"] == {name: "Insufficient Permissions"}
    assert all(seen[other] is not None for key, (other, _) in FIELDS.items() if key != field)


def test_a_power_of_zero_is_no_power(cards: StubCards, h100: Device) -> None:
    cards.set("0", power_usage=0)
    seen = gpu_of(watched(h100))
    assert seen["mean_power_w"] is None
    assert seen["unchecked"] == {"power_w": "NVML says 0 W, which no card takes"}


def test_a_card_that_tells_nothing_or_is_lost_ends_no_watch(cards: StubCards, h100: Device) -> None:
    cards.set("0", **dict.fromkeys(set(nvml_stub.H100) - {"name"}))
    conditions = watched(h100)
    assert conditions.violations == [] and len(gpu_of(conditions)["unchecked"]) > len(FIELDS)
    cards.refuse("0", GPU_IS_LOST, "uuid")
    conditions = watched(h100)
    assert gpu_of(conditions)["mean_power_w"] is None
    cards.refuse("system", NO_PERMISSION, "init")
    conditions = watched(h100)
    assert gpu_of(conditions) == {"unchecked": {"everything": "NVML does not start (Insufficient Permissions)"}}
    assert conditions.violations == []


def test_a_field_that_was_refused_in_some_samples_says_so(
    cards: StubCards, h100: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid_ops.measure.conditions.SAMPLE_SECONDS", 0.01)
    deadline = time.monotonic() + 30
    with ConditionMonitor(h100, [], Limits()) as monitor:
        while not monitor.samples:
            assert time.monotonic() < deadline
        cards.refuse("0", NO_PERMISSION, "temperature")
    seen = gpu_of(monitor.conditions)
    assert seen["most_temperature_c"] == 41
    assert seen["unchecked"]["temperature_c"].startswith("Insufficient Permissions, in ")


def test_a_process_that_computes_beside_the_run_is_foreign(cards: StubCards, h100: Device, other_process: int) -> None:
    cards.set("0", processes=f"{os.getpid()} {other_process}")
    assert watched(h100).violations == ["1 other process computed on the GPU"]


@pytest.mark.parametrize(
    ("running", "in_container", "expected"),
    [
        ({1, 2}, False, (0, 0)),
        ({1, 3}, False, (1, 0)),
        ({3}, False, (1, 0)),
        ({999_999_999}, False, (0, 0)),  # it has just ended
        ({1, 3}, True, (1, 0)),  # the run's own numbers are shown, so all are this container's
        ({3, 999_999_999}, True, (0, 2)),  # the host's numbers: one of them is also a process here, by chance
        ({1, 999_999_999}, True, (0, 1)),
    ],
)
def test_whose_processes_are_is_only_said_where_it_is_known(
    monkeypatch: pytest.MonkeyPatch, running: set[int], in_container: bool, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr("psutil.pid_exists", lambda number: number < 10)
    assert attributed(running, {1, 2}, in_container) == expected


def test_processes_of_unknown_origin_are_shown_as_unchecked(
    cards: StubCards, h100: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid_ops.measure.gpu._is_in_a_container", lambda: True)
    cards.set("0", processes="99999998 99999999")
    conditions = watched(h100)
    seen = gpu_of(conditions)
    assert conditions.violations == []
    assert (seen["most_foreign_processes"], seen["most_unattributed_processes"]) == (0, 2)
    assert "is unknown in this container, up to 2 at once" in seen["unchecked"]["foreign_processes"]


def test_a_mig_instance_has_its_own_processes_and_its_cards_clocks(cards: StubCards, other_process: int) -> None:
    card = cards.add("GPU-1", processes=str(other_process), clocks_event_reasons=nvml_stub.THERMAL_SLOWDOWN)
    cards.add_instance(card, "MIG-1")
    conditions = watched(gpus()[0])
    seen = gpu_of(conditions)
    assert seen["most_foreign_processes"] == 0
    assert seen["least_sm_clock_mhz"] == 1980 and seen["settings"]["mig_mode"] is True
    assert seen["mean_power_w"] is None
    assert seen["unchecked"] == {"power_w": "a MIG instance shares its card's power reading with others"}
    assert conditions.violations == ["thermal slow-down by the hardware in 100% of the samples (limit 5%)"]
