"""Leases, which keep two launches off the same device, whoever on this machine makes them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count as count_from
from pathlib import Path

from hybrid_ops.engines.devices.allocation import Request, grant
from hybrid_ops.engines.devices.device import Device
from hybrid_ops.errors import InputError

POLL_SECONDS = 0.2
LOCKS = "HYBRID_OPS_LOCKS"
"""The variable that names another folder for the locks: one that containers share, or that a test has to itself."""
SHARED_PLACES = (Path("/var/lock"), Path("/dev/shm"), Path("/tmp"))  # noqa: S108 - meant for all users
"""Where every user of a machine may write, the most usual place first."""
EVERYONE = 0o1777
"""All may make files, and each remove only their own."""
QUEUE, WAITING = "queue.lock", "waiting-{}.lock"
"""The short lock of all that changes hands, and the places of requests that wait. A place is used again by others."""


@contextlib.contextmanager
def lease(
    candidates: Sequence[Device], count: int = 1, tell: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[Device, ...]]:
    """Hold `count` of `candidates` until the block ends, waiting for them if need be, which is told once.

    All are taken at once or none is, so no two requests can wait for each other. Who asks first is served first; where
    its devices do not suffice yet, a few later and smaller requests may go before it (`allocation.grant`). The locks
    are files named by the devices in a folder of all users of this machine, so no two runs, nor two workers of one
    run, measure on the same device at once. The kernel frees them when their holder dies.

    Raises InputError for more devices than there are.
    """
    by_name = {device.lock_name: device for device in candidates}
    request = Request(tuple(by_name), count)
    if count > len(by_name):
        names = ", ".join(sorted({device.device_class for device in candidates})) or "that class"
        raise InputError(f"a launch asks for {count} devices of {names}, and this machine has {len(by_name)}")
    folder = lock_folder(tell)
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as queued:
            own: _Waiting | None = None
            while (taken := _take(folder, request, own, held)) is None:
                if own is None:
                    own = _join_queue(folder, request, queued)
                    tell(f"waiting: another run holds the device{'s' if count > 1 else ''}")
                time.sleep(POLL_SECONDS)
        yield tuple(by_name[name] for name in taken)


@dataclass(frozen=True)
class _Waiting:
    """A request that waits, and the file that its process locks as long as it does."""

    number: int
    """Its place: less is older."""
    request: Request
    path: Path

    @classmethod
    def read(cls, path: Path, descriptor: int) -> _Waiting:
        text = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()
        document, _ = json.JSONDecoder().raw_decode(text)
        fields = document["request"]
        return cls(document["number"], Request(**{**fields, "candidates": tuple(fields["candidates"])}), path)

    def write(self, descriptor: int) -> None:
        text = json.dumps({"number": self.number, "request": asdict(self.request)}).encode()
        os.pwrite(descriptor, text, 0)  # before it is cut: whoever dies in between leaves what can be read
        os.ftruncate(descriptor, len(text))


def _take(folder: Path, request: Request, own: _Waiting | None, held: contextlib.ExitStack) -> tuple[str, ...] | None:
    """Lock what the request gets now, in `held`, and return its names; None where it has to wait."""
    with _locked(folder / QUEUE):
        older = [other for other in _queue(folder) if own is None or other.number < own.number]
        names = {*request.candidates, *(name for other in older for name in other.request.candidates)}
        with contextlib.ExitStack() as looked_at:
            free = {}
            for name in names:
                stack = looked_at.enter_context(contextlib.ExitStack())
                if _is_locked(stack.enter_context(_open(folder / f"{name}.lock"))):
                    free[name] = stack
            granted = grant([other.request for other in older], request, free)
            if granted is None:
                return None
            for name in granted.devices:
                held.enter_context(free[name].pop_all())
        for place in granted.overtakes:
            overtaken = older[place]
            with _open(overtaken.path) as descriptor:
                counted = replace(overtaken.request, overtaken=overtaken.request.overtaken + 1)
                replace(overtaken, request=counted).write(descriptor)
        return granted.devices


def _join_queue(folder: Path, request: Request, queued: contextlib.ExitStack) -> _Waiting:
    """Put a request at the end of the queue, where it stays until `queued` is closed or this process dies."""
    with _locked(folder / QUEUE):
        number = 1 + max((other.number for other in _queue(folder)), default=0)
        for place in count_from():
            with contextlib.ExitStack() as stack:
                path = folder / WAITING.format(place)
                descriptor = stack.enter_context(_open(path))
                if _is_locked(descriptor):
                    own = _Waiting(number, request, path)
                    own.write(descriptor)
                    queued.enter_context(stack.pop_all())
                    return own
        raise AssertionError("places have no end")


def _queue(folder: Path) -> list[_Waiting]:
    """The requests that wait, the oldest first. What a dead process left is not locked, and so is none."""
    found = []
    for place in count_from():
        path = folder / WAITING.format(place)
        if not path.exists():
            break
        with _open(path) as descriptor:
            if not _is_locked(descriptor):
                found.append(_Waiting.read(path, descriptor))
    return sorted(found, key=lambda waiting: waiting.number)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock under which devices and places change hands. Nobody waits while holding it."""
    with _open(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _is_locked(descriptor: int) -> bool:
    """Whether an open file is now locked here, because nobody else had it locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
def _open(path: Path) -> Iterator[int]:
    """An open file that everyone may lock, made if it is absent. Closing it gives its lock back."""
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
