"""Leases are the whole machine's: between users, between processes, and when a holder dies."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from hybrid_ops.engines.devices import gpus, lease
from hybrid_ops.engines.devices.leases import LOCKS, lock_folder
from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.worker import Worker
from hybrid_ops.errors import InputError
from tests.gpu.nvml_stub import StubCards

ROOT = Path(__file__).parents[2]
HOLDER = """
import os, sys
from hybrid_ops.engines.devices import gpus, lease
devices = gpus()
if len(sys.argv) > 1:  # everything is imported and found by now, so the user need not be able to read it
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
with lease(devices, tell=lambda text: print(text, flush=True)) as [device]:
    print(device.uuid, flush=True)
    sys.stdin.read()
"""
NOBODY = 54321
"""A user that no machine knows by name."""


def holder(*user: int) -> subprocess.Popen[str]:
    """A process that says which GPU it holds, or that it waits, and holds it until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, *map(str, user)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def locks(cards: StubCards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cards, and a folder of locks of this test's own."""
    cards.add("GPU-1")
    cards.add("GPU-2")
    monkeypatch.setenv(LOCKS, str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_processes_get_different_cards_and_the_next_one_waits_for_a_dead_holder(locks: Path) -> None:
    with holder() as first, holder() as second:
        assert {said(first), said(second)} == {"GPU-1", "GPU-2"}
        with holder() as third:
            assert said(third) == "waiting: another run holds the device"
            first.kill()
            assert said(third) in {"GPU-1", "GPU-2"}
            third.communicate("")
        second.communicate("")
    assert {path.name for path in locks.iterdir()} == {"GPU-1.lock", "GPU-2.lock", "queue.lock", "waiting-0.lock"}


def test_locks_can_be_used_by_every_user(locks: Path) -> None:
    before = os.umask(0o077)
    try:
        with lease(gpus()):
            assert stat.S_IMODE(locks.stat().st_mode) == 0o1777
            assert stat.S_IMODE((locks / "GPU-1.lock").stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_a_user_without_a_name_shares_them(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as everyones:  # pytest's own folders are closed to others
        Path(everyones).chmod(0o755)
        monkeypatch.setenv(LOCKS, f"{everyones}/locks")
        Path(everyones, "locks").mkdir()
        Path(everyones, "locks").chmod(0o1777)
        with holder(NOBODY) as theirs:
            assert said(theirs) == "GPU-1"
            for name in ("GPU-1", "GPU-2", "queue"):
                assert (Path(everyones) / "locks" / f"{name}.lock").stat().st_uid == NOBODY
            with lease(gpus()) as [own], holder() as waiting:
                assert own.uuid == "GPU-2"
                assert said(waiting) == "waiting: another run holds the device"
                theirs.communicate("")
                assert said(waiting) == "GPU-1"
                waiting.communicate("")


def test_an_engine_starts_for_a_user_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", unknown)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with Worker(Noop.worker, tmp_path) as worker:
        worker.request("ready", 30)
        cache = psutil.Process(worker.process.pid).environ()["TORCHINDUCTOR_CACHE_DIR"]
    assert Path(cache).name == f"torchinductor_uid_{os.getuid()}"


def test_a_folder_that_cannot_be_used_is_told_and_the_next_one_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOCKS, raising=False)
    places = [tmp_path / name for name in ("private", "taken", "good")]
    for place in places:
        place.mkdir()
        place.chmod(0o1777)
    places[0].chmod(0o755)  # no place of all users, so nobody takes it and nothing is told
    (places[1] / "hybrid-ops").write_text("in the way")
    monkeypatch.setattr("hybrid_ops.engines.devices.leases.SHARED_PLACES", tuple(places))
    told: list[str] = []
    assert lock_folder(told.append) == places[2] / "hybrid-ops"
    assert told == [
        f"devices are locked in {places[2]}/hybrid-ops, because {places[1]}/hybrid-ops is not a folder: other users "
        "may lock elsewhere"
    ]


def test_without_any_shared_folder_locks_are_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOCKS, raising=False)
    monkeypatch.setattr("hybrid_ops.engines.devices.leases.SHARED_PLACES", ())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told: list[str] = []
    assert lock_folder(told.append) == tmp_path / f"hybrid-ops-{os.getuid()}"
    assert len(told) == 1 and "for this user alone" in told[0]


def test_a_named_folder_that_cannot_be_used_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(LOCKS, str(tmp_path / "file"))
    with pytest.raises(InputError, match=f"{LOCKS}: .*file is not a folder: name a folder that this user may write to"):
        lock_folder()
