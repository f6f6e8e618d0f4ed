"""The injected slow-down where steps are queued on a device, on a device that only counts time."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_ops.engines.vllm_plugins import injection
from hybrid_ops.engines.vllm_plugins.injection import DeviceDelay, slow_down_device, slow_down_host

CYCLES_PER_MILLISECOND = 1_500_000
BATCH_MILLISECONDS = {8: 2.0, 512: 30.0}
"""What a batch of so many tokens takes on the device."""


class Device:
    """A device with one queue, in milliseconds: `queued` is when it will have done all that it has been given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queued = 0.0
        self.waits = 0

    def run(self, milliseconds: float) -> None:
        self.queued = max(self.queued, self.now) + milliseconds

    def _sleep(self, cycles: int) -> None:
        self.run(cycles / CYCLES_PER_MILLISECOND)

    def Event(self, enable_timing: bool) -> Event:
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.at = 0.0

    def record(self) -> None:
        self.at = max(self.device.queued, self.device.now)

    def query(self) -> bool:
        return self.at <= self.device.now

    def synchronize(self) -> None:
        self.device.waits += 1
        self.device.now = max(self.device.now, self.at)

    def elapsed_time(self, end: Event) -> float:
        return end.at - self.at


def engine(device: Device) -> Any:
    """A worker that queues a batch and does not wait for it, as vLLM's does under asynchronous scheduling."""

    class Worker:
        def execute_model(self, scheduler_output: Any) -> None:
            if scheduler_output.total_num_scheduled_tokens:
                device.run(BATCH_MILLISECONDS[scheduler_output.total_num_scheduled_tokens])

    return Worker


def milliseconds(share: float, batches: list[int]) -> float:
    """How long a device takes for batches of so many tokens, of which two are in flight at once."""
    device = Device()
    worker = engine(device)
    if share:
        slow_down_device(worker, DeviceDelay(share, device))
    batch_ends: deque[float] = deque()

    def step(tokens: int) -> None:
        worker().execute_model(SimpleNamespace(total_num_scheduled_tokens=tokens))
        batch_ends.append(device.queued)
        if len(batch_ends) > 1:
            device.now = max(device.now, batch_ends.popleft())

    for tokens in (512, 8, 8):  # the first batch of each size is waited for, which warms up
        step(tokens)
    waits = device.waits
    begin = device.queued
    for tokens in batches:
        step(tokens)
    assert device.waits == waits, "the host waited for the device, which asynchronous scheduling does not"
    return device.queued - begin


@pytest.mark.parametrize("share", [0.05, 0.4])
@pytest.mark.parametrize("batches", [[8] * 50, [512, *[8] * 50, 512, 0, 8]])
def test_each_batch_lasts_longer_by_the_share_of_its_own_time(share: float, batches: list[int]) -> None:
    assert milliseconds(share, batches) / milliseconds(0, batches) == pytest.approx(1 + share)


class Clock:
    """`time.perf_counter` for a host that does what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(injection.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(injection, "spin", self.until)

    def until(self, moment: float) -> None:
        self.now = max(self.now, moment)

    def busy(self, seconds: float) -> None:
        self.now += seconds


def core_type(clock: Clock, waits: float) -> Any:
    """A core whose step takes a second of the host, and then waits for the device."""

    class Core:
        def __init__(self) -> None:
            answer = SimpleNamespace(result=lambda: clock.busy(waits), done=lambda: True)
            self.model_executor = SimpleNamespace(
                execute_model=lambda output, non_block: answer, sample_tokens=lambda grammar, non_block: answer
            )

        def step(self) -> str:
            clock.busy(1.0)
            self.model_executor.execute_model("batch", non_block=True).result()
            return "tokens"

        def step_with_batch_queue(self) -> str:
            future = self.model_executor.sample_tokens(None, non_block=True)
            clock.busy(1.0)
            assert future.done(), "the answer has all that it had"
            future.result()
            return "tokens"

    return Core


@pytest.mark.parametrize("step", ["step", "step_with_batch_queue"])
@pytest.mark.parametrize(("is_queued", "seconds"), [(True, 1.0 + 3.0 + 0.1), (False, 4.0 + 0.4)])
def test_the_host_is_slowed_by_its_own_time_and_where_nothing_is_queued_by_all(
    monkeypatch: pytest.MonkeyPatch, step: str, is_queued: bool, seconds: float
) -> None:
    clock = Clock(monkeypatch)
    core = core_type(clock, waits=3.0)
    slow_down_host(core, 0.1, is_queued)
    running = core()
    for count in (1, 2, 3):
        assert getattr(running, step)() == "tokens"
        assert clock.now == pytest.approx(count * seconds)
