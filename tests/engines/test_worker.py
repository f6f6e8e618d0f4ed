"""The worker's life: start, answer, end."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from hybrid_ops.engines.devices import cpu, placed
from hybrid_ops.engines.devices.leases import LOCKS, POLL_SECONDS
from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.worker import Worker, WorkerError, root_cause

NOOP = Noop.worker


def test_a_worker_ends_with_its_block(tmp_path: Path) -> None:
    with Worker(NOOP, tmp_path) as worker:
        assert worker.request("load", 30, model="m", arguments={})["device"]["platform"] == "cpu"
        process = worker.process.pid
    assert not psutil.pid_exists(process)
    assert [path.name for path in tmp_path.iterdir()] == ["engine.log"]


def test_a_workers_temporary_files_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for is_killed in (False, True):
        with Worker(NOOP, tmp_path / "launch") as worker:
            worker.request("load", 30, model="m", arguments={})
            folder = Path(psutil.Process(worker.process.pid).environ()["TMPDIR"])
            assert folder.parent == tmp_path
            (folder / "left behind").touch()
            if is_killed:
                worker.kill()
        assert not folder.exists()


def test_a_worker_sees_this_package_alone_on_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with Worker(NOOP, tmp_path) as worker:
        worker.request("load", 30, model="m", arguments={})  # it runs, so its environment can be read
        variables = psutil.Process(worker.process.pid).environ()
        site = Path(variables["PYTHONPATH"])
        assert sorted(path.name for path in site.iterdir())[0] == "hybrid_ops"
        assert site.parent == Path(variables["TMPDIR"])
        # Where TMPDIR lies in a repository, pytest would find the suite's testcases there once more.
        assert not (site / "hybrid_ops" / "suite").exists()
        assert {path.name for path in (site / "hybrid_ops").iterdir()} == {"__init__.py", "engines", "layers"}


def test_an_interpreter_that_cannot_start_is_a_worker_error(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="cannot start /nowhere/python: No such file"):
        Worker(NOOP, tmp_path, interpreter="/nowhere/python")


def test_a_missing_program_is_reported_from_the_log(tmp_path: Path) -> None:
    with Worker(tmp_path / "no_such_worker.py", tmp_path) as worker, pytest.raises(WorkerError) as raised:
        worker.request("load", 30, model="m", arguments={})
    assert "died during 'load': exit status 2" in str(raised.value)
    assert "can't open file" in raised.value.log.read_text()


def test_removed_variables_do_not_reach_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SETTING", "1")
    with Worker(NOOP, tmp_path, sys.executable, {"SOME_SETTING": None, "OTHER_SETTING": "2"}) as worker:
        worker.request("load", 30, model="m", arguments={})
        variables = psutil.Process(worker.process.pid).environ()
    assert "SOME_SETTING" not in variables
    assert variables["OTHER_SETTING"] == "2"


def test_a_workers_own_path_comes_before_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["mine", "", "/theirs"]))
    with Worker(NOOP, tmp_path) as worker:
        worker.request("load", 30, model="m", arguments={})
        first, *rest = psutil.Process(worker.process.pid).environ()["PYTHONPATH"].split(os.pathsep)
    assert first.endswith("/site")
    assert rest == [str(tmp_path / "mine"), "/theirs"], "as seen from where the user is, not from the launch's folder"


STAGES = """
import time
from hybrid_ops.engines.protocol import begin_stage, serve

def load(stages, hang):
    for stage in stages:
        begin_stage(stage)
    if hang:
        time.sleep(3600)
    return stages

serve({"load": load})
"""


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([], "no answer to 'load' within 1 s; killed"),
        (["compile"], "no answer to 'load' (stage 'compile') within 2 s; killed"),
        (["compile", "other"], "no answer to 'load' (stage 'other') within 2 s; killed"),
    ],
)
def test_a_stage_begins_a_deadline_of_its_own(tmp_path: Path, stages: list[str], told: str) -> None:
    program = tmp_path / "staged_worker.py"
    program.write_text(STAGES)
    with Worker(program, tmp_path) as worker:
        worker.stage_seconds = {"compile": 2.0}
        assert worker.request("load", 30, stages=stages, hang=False) == stages
        with pytest.raises(WorkerError) as raised:
            worker.request("load", 1, stages=stages, hang=True)
    assert str(raised.value) == told


def test_the_root_cause_is_taken_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("Traceback\n(EngineCore) torch.OutOfMemoryError: 3 GiB short\nRuntimeError: Engine core failed\n")
    assert root_cause("RuntimeError: Engine core failed", log) == "RuntimeError: Engine core failed"
    assert root_cause("died", log) == "died [last error in the log: RuntimeError: Engine core failed]"


def test_a_device_is_leased_to_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCKS, str(tmp_path))
    entered, waiting = threading.Event(), threading.Event()

    def other() -> None:
        with placed(cpu(), tell=lambda text: waiting.set()):
            entered.set()

    thread = threading.Thread(target=other)
    with placed(cpu()) as held:
        assert held == cpu()
        thread.start()
        assert waiting.wait(30), "the second did not say that it waits"
        assert not entered.wait(3 * POLL_SECONDS), "two held one device"
    assert entered.wait(30), "the device was not given back"
    thread.join()
