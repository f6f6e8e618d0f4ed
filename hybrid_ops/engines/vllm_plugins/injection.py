"""A slow-down of each engine step by a known share (`HYBRID_OPS_INJECT`), so that anyone can see the gate catch one.

On a CPU a step is the host's own time, so the host spins after it. On CUDA a step is queued on the device, which
computes it while the host prepares the next one: whichever of the two is slower sets the pace. So both are slowed by
the share, each by its own time: the device by a kernel that waits (`torch.cuda._sleep`), the host by spinning, not
counting what it spent waiting for the device.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any

INJECT_VARIABLE = "HYBRID_OPS_INJECT"
CALIBRATION_CYCLES = 10_000_000


def register() -> None:
    """Slow the engine down by the share that the environment names; nothing where it names none."""
    if share := float(os.environ.get(INJECT_VARIABLE, "0")):
        from vllm.platforms import current_platform
        from vllm.v1.engine.core import EngineCore

        is_queued = current_platform.is_cuda_alike()
        slow_down_host(EngineCore, share, is_queued)
        if is_queued:
            import torch
            from vllm.v1.worker.gpu_worker import Worker

            slow_down_device(Worker, DeviceDelay(share, torch.cuda))


def slow_down_host(core_type: Any, share: float, is_queued: bool) -> None:
    """Make each step of an engine core last longer by `share` of its own time on the host.

    `is_queued`: steps are queued on a device, which is slowed down by itself, so waiting for it is not the host's time.
    """

    def slowed(step: Any) -> Any:
        @functools.wraps(step)
        def wrapper(core: Any, *arguments: Any, **keywords: Any) -> Any:
            waiting = _waiting_for_device(core) if is_queued else Waiting()
            start, waited_before = time.perf_counter(), waiting.seconds
            outputs = step(core, *arguments, **keywords)
            end = time.perf_counter()
            own = end - start - (waiting.seconds - waited_before)
            spin(end + share * own)
            return outputs

        return wrapper

    core_type.step = slowed(core_type.step)
    core_type.step_with_batch_queue = slowed(core_type.step_with_batch_queue)


def spin(until: float) -> None:
    """Return at a moment of `time.perf_counter`. A sleep would let the processor's clock drop."""
    while time.perf_counter() < until:
        pass


class Waiting:
    """How long an engine core has waited for answers of its executor that were still being computed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, ask: Any) -> Any:
        """`ask`, whose answer's `result` counts the time that it waits."""

        @functools.wraps(ask)
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            answer = ask(*arguments, **keywords)
            return _TimedAnswer(answer, self) if hasattr(answer, "result") else answer

        return wrapper


class _TimedAnswer:
    """A future that counts the time of its `result`."""

    def __init__(self, answer: Any, waiting: Waiting) -> None:
        self._answer = answer
        self._waiting = waiting

    def result(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return self._answer.result(*arguments)
        finally:
            self._waiting.seconds += time.perf_counter() - start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)


def _waiting_for_device(core: Any) -> Waiting:
    """The core's own count, which is begun at its first step."""
    if not hasattr(core, "_hybrid_ops_waiting"):
        waiting = core._hybrid_ops_waiting = Waiting()
        for name in ("execute_model", "sample_tokens"):
            setattr(core.model_executor, name, waiting.timed(getattr(core.model_executor, name)))
    return core._hybrid_ops_waiting


def slow_down_device(worker_type: Any, delay: DeviceDelay) -> None:
    """Queue a delay on the device behind each batch that a worker queues there."""
    execute_model = worker_type.execute_model

    @functools.wraps(execute_model)
    def wrapper(worker: Any, scheduler_output: Any) -> Any:
        tokens = scheduler_output.total_num_scheduled_tokens
        if not tokens:
            return execute_model(worker, scheduler_output)
        with delay.behind(tokens):
            return execute_model(worker, scheduler_output)

    worker_type.execute_model = wrapper


class DeviceDelay:
    """Makes the device wait, behind each batch, for a share of the time that a batch of its size takes there.

    The host does not wait for a batch: its time is read once the device has passed its end, and holds for the batches
    of as many tokens that follow. Only the first batch of a size is waited for.

    Parameters
    ----------
    share: of a batch's own time on the device
    cuda: `torch.cuda`, or what stands for it
    """

    def __init__(self, share: float, cuda: Any) -> None:
        self._share = share
        self._cuda = cuda
        self._milliseconds: dict[int, float] = {}
        """Of the last timed batch of so many tokens."""
        self._running: list[tuple[int, Any, Any]] = []
        self._cycles_per_millisecond: float | None = None

    def behind(self, tokens: int) -> _Batch:
        """A context in which a batch of `tokens` tokens is queued, and behind which the delay is."""
        return _Batch(self, tokens)

    def mark(self) -> Any:
        """A point in the device's queue."""
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def queue(self, tokens: int, start: Any) -> None:
        """Queue the delay behind the batch that began at `start`."""
        end = self.mark()
        self._running.append((tokens, start, end))
        if tokens not in self._milliseconds:
            end.synchronize()
        self._read_finished()
        self._cuda._sleep(round(self._share * self._milliseconds[tokens] * self._rate()))

    def _read_finished(self) -> None:
        while self._running and self._running[0][2].query():
            tokens, start, end = self._running.pop(0)
            self._milliseconds[tokens] = start.elapsed_time(end)

    def _rate(self) -> float:
        """Cycles of the device's clock a millisecond, as its own waiting kernel counts them."""
        if self._cycles_per_millisecond is None:
            start = self.mark()
            self._cuda._sleep(CALIBRATION_CYCLES)
            end = self.mark()
            end.synchronize()
            self._cycles_per_millisecond = CALIBRATION_CYCLES / start.elapsed_time(end)
        return self._cycles_per_millisecond


class _Batch:
    """One batch on its way to the device."""

    def __init__(self, delay: DeviceDelay, tokens: int) -> None:
        self._delay = delay
        self._tokens = tokens

    def __enter__(self) -> None:
        self._start = self._delay.mark()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._delay.queue(self._tokens, self._start)
