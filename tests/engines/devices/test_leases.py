"""Leases of several devices between real processes, some of which die while they wait or hold."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_ops.engines.devices import Device, alike, cpu, lease, leases, placed, placed_class, shortage
from hybrid_ops.engines.devices.allocation import MOST_OVERTAKEN
from hybrid_ops.engines.devices.leases import LOCKS
from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.standby import Standby
from hybrid_ops.engines.worker import Worker
from hybrid_ops.errors import InputError

FOUR = tuple(Device("cuda", number, "a GPU", "gpu", f"GPU-{number}") for number in range(4))
SECONDS = 60


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOCKS, str(tmp_path / "locks"))
    return tmp_path / "locks"


def launches(log: int, seed: int, dies: bool) -> None:
    """Lease devices again and again, and write to the log who has which. A process that dies says so first."""
    draw = random.Random(seed)
    for number in range(4):
        with lease(draw.sample(FOUR, 4), draw.randint(1, 4)) as devices:
            held = " ".join(sorted(device.lock_name for device in devices))
            os.write(log, f"{os.getpid()} takes {held}\n".encode())
            if dies and number == 2:
                os.write(log, f"{os.getpid()} gives {held}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(log, f"{os.getpid()} gives {held}\n".encode())


@settings(max_examples=4)
@given(seed=st.integers(0, 1 << 30))
def test_processes_of_random_requests_and_deaths(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    fork = multiprocessing.get_context("fork")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "POLL_SECONDS", 0.002)
        processes = [fork.Process(target=launches, args=(log, seed + one, one % 3 == 0)) for one in range(6)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0, 0, -signal.SIGKILL, 0, 0]
    holders: dict[str, str] = {}
    for line in path.read_text().splitlines():
        process, does, *names = line.split()
        if does == "gives":
            holders = {name: holder for name, holder in holders.items() if holder != process}
        else:
            assert not holders.keys() & set(names), f"{line}, and they are {holders}"
            holders |= dict.fromkeys(names, process)
    assert path.read_text().count("takes") == 2 * 3 + 4 * 4


def test_a_large_request_is_overtaken_a_few_times_and_a_dead_one_holds_nobody_up(locks: Path) -> None:
    go_reading, go_writing = os.pipe()
    reading, writing = os.pipe()
    # Forked before anything is leased here: a fork shares the locks of its parent.
    waiting = multiprocessing.get_context("fork").Process(target=_wait, args=(go_reading, writing), daemon=True)
    waiting.start()
    with lease(FOUR[:1]):
        os.write(go_writing, b"go")
        assert os.read(reading, 100) == b"waiting: another run holds the devices"
        for _ in range(MOST_OVERTAKEN):
            with lease(FOUR[1:3], tell=_refuse_to_wait) as held:
                assert held == FOUR[1:2]
        with pytest.raises(_WouldWaitError), lease(FOUR[1:3], tell=_refuse_to_wait):
            pass
        waiting.kill()
        waiting.join(SECONDS)
        with lease(FOUR[1:3], 2, _refuse_to_wait) as held:
            assert held == FOUR[1:3]
    assert (locks / "waiting-0.lock").exists()


class _WouldWaitError(Exception):
    pass


def _refuse_to_wait(text: str) -> None:
    raise _WouldWaitError(text)


def _wait(go: int, writing: int) -> None:
    os.read(go, 100)
    with lease(FOUR, 4, lambda text: os.write(writing, text.encode()) and None):
        pass


def test_more_devices_than_there_are_is_one_line() -> None:
    with pytest.raises(InputError, match="a launch asks for 5 devices of gpu, and this machine has 4"), lease(FOUR, 5):
        pass
    there = len(alike(cpu()))
    assert shortage("cpu", there) is None
    assert shortage("cpu", there + 1) == f"it asks for {there + 1} cores, and this machine has {there}"


def test_classes_tell_how_many_devices_an_engine_has() -> None:
    assert placed_class("nvidia-h200", "cuda", 1) == "nvidia-h200"
    assert placed_class("nvidia-h200", "cuda", 8) == "nvidia-h200x8"
    assert placed_class("cpu-amd-epyc-avx2-2c", "cpu", None) == "cpu-amd-epyc-avx2-2c"
    assert placed_class("cpu-amd-epyc-avx2-16c", "cpu", 1) == "cpu-amd-epyc-avx2-1of16c"
    assert placed_class("server-127-0-0-1-8000", "server", None) == "server-127-0-0-1-8000"


def test_a_worker_is_bound_to_the_cores_that_it_leased(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    with placed(cpu(), 1) as device:
        [core] = device.cores
        assert device.device_class.endswith(f"-1of{len(before)}c")
        assert device.environment["OMP_NUM_THREADS"] == "1"
        assert device.environment["VLLM_CPU_OMP_THREADS_BIND"] == str(core)
        standby = Standby(tmp_path / "standby")
        standby.another_follows = True
        with standby.worker(Noop.worker, tmp_path / "1", environment=device.environment, cores=device.cores) as worker:
            worker.request("ready", SECONDS)
            assert psutil.Process(worker.process.pid).cpu_affinity() == [core]
        assert not (tmp_path / "standby").exists(), "a worker that waits would share the core"
        standby.close()
    assert os.sched_getaffinity(0) == before
    with placed(cpu()) as whole, Worker(Noop.worker, tmp_path / "2", environment=whole.environment) as worker:
        worker.request("ready", SECONDS)
        assert set(psutil.Process(worker.process.pid).cpu_affinity()) == before


def test_the_whole_cpu_and_one_core_of_it_exclude_each_other() -> None:
    with placed(cpu(), 1), pytest.raises(_WouldWaitError), placed(cpu(), tell=_refuse_to_wait):
        pass
    with placed(cpu(), 1, is_alone=True) as device:
        assert len(device.cores) == 1
        with pytest.raises(_WouldWaitError), placed(cpu(), 1, tell=_refuse_to_wait):
            pass


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_cores_are_leased_side_by_side_and_ranks_have_cores_of_their_own() -> None:
    with placed(cpu(), 1) as first, placed(cpu(), 1) as second:
        assert set(first.cores).isdisjoint(second.cores)
    with placed(cpu(), 2) as both:
        variables = both.rank_environment(2)
        assert variables["VLLM_CPU_OMP_THREADS_BIND"] == f"{both.cores[0]}|{both.cores[1]}"
        assert variables["OMP_NUM_THREADS"] == "1"


def test_several_gpus_are_one_device_to_an_engine() -> None:
    two = Device("cuda", 0, "2 × a GPU", "gpux2", members=FOUR[1:3])
    assert two.environment == {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}
