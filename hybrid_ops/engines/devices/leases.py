"""Leases, which keep two launches off the same device, whoever on this machine makes them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hybrid_ops.engines.devices.device import Device
from hybrid_ops.errors import InputError

POLL_SECONDS = 0.2
LOCKS = "HYBRID_OPS_LOCKS"
"""The variable that names another folder for the locks: one that containers share, or that a test has to itself."""
SHARED_PLACES = (Path("/var/lock"), Path("/dev/shm"), Path("/tmp"))  # noqa: S108 - meant for all users
"""Where every user of a machine may write, the most usual place first."""
EVERYONE = 0o1777
"""All may make files, and each remove only their own."""


@contextlib.contextmanager
def lease(candidates: tuple[Device, ...], tell: Callable[[str], None] = lambda text: None) -> Iterator[Device]:
    """Hold one of `candidates` until the block ends, waiting for it if need be, which is told once.

    The lock is a file named by the device's UUID in a folder of all users of this machine, so no two runs, nor two
    workers of one run, measure on the same device at once. The kernel frees it when its holder dies.
    """
    folder = lock_folder(tell)
    told = False
    while True:
        for device in candidates:
            with _lock_file(folder, device) as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield device
                return
        if not told:
            tell("waiting: another run holds the device")
            told = True
        time.sleep(POLL_SECONDS)


def lock_folder(tell: Callable[[str], None] = lambda text: None) -> Path:
    """The folder of the locks, made if absent. Raises InputError where the variable names one that cannot be used.

    By itself it is the first of `SHARED_PLACES` that every user may write to, so that all find the same. Where it
    cannot be used nevertheless, the next is, and that is told: whoever uses the first is not kept off.
    """
    if named := os.environ.get(LOCKS):
        if problem := _cannot_use(Path(named)):
            raise InputError(f"{LOCKS}: {problem}: name a folder that this user may write to")
        return Path(named)
    problems: list[str] = []
    for place in SHARED_PLACES:
        if not _is_everyones(place):
            continue
        folder = place / "hybrid-ops"
        problem = _cannot_use(folder)
        if problem is None:
            if problems:
                tell(f"devices are locked in {folder}, because {'; '.join(problems)}: other users may lock elsewhere")
            return folder
        problems.append(problem)
    folder = Path(tempfile.gettempdir()) / f"hybrid-ops-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    tell(f"devices are locked in {folder}, for this user alone: no folder of all users can be written")
    return folder


def _is_everyones(place: Path) -> bool:
    try:
        mode = place.stat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and mode & EVERYONE == EVERYONE


def _cannot_use(folder: Path) -> str | None:
    """Make `folder` for everyone if it is absent; why it cannot hold locks, or None if it can."""
    if not folder.is_symlink() and not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(dir=folder.parent))
            new.chmod(EVERYONE)
            _give_name(new, folder)
        except OSError as error:
            return f"{folder} cannot be made ({error.strerror})"
    if folder.is_symlink() or not folder.is_dir():
        return f"{folder} is not a folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written by this user"


def _give_name(new: Path, folder: Path) -> None:
    """Call a folder by its name once all may write to it; another process may have been faster."""
    try:
        new.rename(folder)
    except OSError:
        new.rmdir()
        if not folder.is_dir():
            raise


@contextlib.contextmanager
def _lock_file(folder: Path, device: Device) -> Iterator[int]:
    """The open lock file of a device, made for everyone if it is absent."""
    path = folder / f"{device.uuid or device.device_class}.lock"
    descriptor = None
    while descriptor is None:
        # Never both open and create: in a folder of all users Linux refuses that for another user's file
        # (fs.protected_regular).
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            _make_for_everyone(path)
        except OSError as error:
            raise InputError(f"{path}: the device's lock cannot be opened ({error.strerror}): remove it") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_for_everyone(path: Path) -> None:
    """Make an empty file that all may open from its first moment on; another process may have been faster."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        os.fchmod(descriptor, 0o666)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.close(descriptor)
        Path(temporary).unlink()
