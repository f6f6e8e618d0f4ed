"""Workers that wait for the next launch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.standby import Standby
from hybrid_ops.engines.worker import Worker, WorkerError

NOOP = Noop.worker


@pytest.fixture
def standby(tmp_path: Path) -> Standby:
    standby = Standby(tmp_path / "standby")
    standby.another_follows = True
    return standby


def load(worker: Worker) -> None:
    assert worker.request("load", 30, model="m", arguments={})["device"]["platform"] == "cpu"


def waiting_worker(standby: Standby) -> psutil.Process:
    worker = standby._waiting
    assert worker is not None
    return psutil.Process(worker.process.pid)


def test_the_next_launch_gets_a_process_of_its_own_that_has_started_already(tmp_path: Path, standby: Standby) -> None:
    with standby.worker(NOOP, tmp_path / "1") as first:
        load(first)
        standby.settle(30)
        waiting = waiting_worker(standby)
    standby.another_follows = False
    with standby.worker(NOOP, tmp_path / "2") as second:
        assert second.process.pid == waiting.pid != first.process.pid
        load(second)
    standby.close()
    assert not waiting.is_running()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_the_log_moves_to_the_launch(tmp_path: Path, standby: Standby) -> None:
    with standby.worker(NOOP, tmp_path / "1"):
        standby.settle(30)
    with standby.worker(NOOP, tmp_path / "2") as second, pytest.raises(WorkerError):
        second.request(
            "load", 30, model="m", arguments={"fail": {"on": "load", "how": "raise", "message": "my reason"}}
        )
    standby.close()
    assert second.log == tmp_path / "2" / "engine.log"
    assert "my reason" in second.log.read_text()


def test_a_worker_of_another_kind_does_not_get_the_waiting_one(tmp_path: Path, standby: Standby) -> None:
    with standby.worker(NOOP, tmp_path / "1"):
        waiting = waiting_worker(standby)
    with standby.worker(NOOP, tmp_path / "2", environment={"SOME_SETTING": "1"}) as second:
        assert second.process.pid != waiting.pid
        assert not waiting.is_running()
        load(second)
    standby.close()


def test_a_waiting_worker_that_died_is_replaced(tmp_path: Path, standby: Standby) -> None:
    with standby.worker(NOOP, tmp_path / "1"):
        os.kill(waiting_worker(standby).pid, signal.SIGKILL)
        standby._waiting.process.wait()  # type: ignore[union-attr]
        standby.settle(30)
    with standby.worker(NOOP, tmp_path / "2") as second:
        load(second)
    standby.close()


def test_a_waiting_worker_that_does_not_get_ready_is_given_up(tmp_path: Path, standby: Standby) -> None:
    with standby.worker(NOOP, tmp_path / "1"):
        waiting = waiting_worker(standby)
        waiting.suspend()
        standby.settle(0.2)
        assert not waiting.is_running()
    standby.close()


def test_nothing_waits_after_the_last_launch(tmp_path: Path, standby: Standby) -> None:
    standby.another_follows = False
    with standby.worker(NOOP, tmp_path / "1") as only:
        assert [child.pid for child in psutil.Process().children()] == [only.process.pid]
    standby.close()
