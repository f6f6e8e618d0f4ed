"""The guard of a GPU's power limit: the one process that sets the limit, and sets the old one again whatever happens.

It is run by its path, in a session of its own, and needs nvidia-ml-py and the standard library. Its standard input is
the run's end of a pipe: when that closes, because the run is done, was killed or crashed, the guard restores the limit
and ends. Ctrl-C and a closed terminal do not reach it, and a polite kill makes it restore first. Before it changes
anything it writes the old limit into a journal, so that where the guard itself was killed the next one restores the
limit.

    power_guard.py DEVICE FOLDER       DEVICE is a UUID, or a number as NVML counts

It speaks JSON lines. First it says `{"old": mW, "least": mW, "most": mW}`. Then it answers `{"set": mW}` with `{"held":
mW}`, and at the end it says `{"restored": mW}`. Whatever NVML refuses is `{"error": "..."}`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pynvml

LOCK_SECONDS = 10.0
"""How long another guard of the same GPU may take to restore its limit."""
RESTORE_TRIES = 5
STEADY_READINGS = 3
"""So many readings in a row must show the limit before it is said to hold."""
READ_SECONDS = 0.05
HOLD_SECONDS = 3.0
"""How long the device may take to enforce a limit."""


class Refused(Exception):
    """NVML, or the state of things, does not allow it."""


class Guard:
    """One GPU's limit."""

    def __init__(self, device: str, folder: Path) -> None:
        pynvml.nvmlInit()
        by_index = device.isdecimal()
        self.handle = (
            pynvml.nvmlDeviceGetHandleByIndex(int(device)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(device)
        )
        self.journal = folder / f"power-{device}.json"
        self.lock = (folder / f"power-{device}.lock").open("w")
        self.old = 0

    def begin(self) -> dict[str, int]:
        """Take the GPU's limit into care; restore it first where a guard before this one could not."""
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Refused("another run is changing the power limit of this GPU") from None
                time.sleep(READ_SECONDS)
        least, most = pynvml.nvmlDeviceGetPowerManagementLimitConstraints(self.handle)
        self.old = pynvml.nvmlDeviceGetPowerManagementLimit(self.handle)
        with contextlib.suppress(OSError, ValueError):
            self.old = int(json.loads(self.journal.read_text(encoding="utf-8"))["limit"])
        # Set as it is: this shows whether the limit may be set at all, and mends what a killed guard has left.
        pynvml.nvmlDeviceSetPowerManagementLimit(self.handle, self.old)
        return {"old": self.old, "least": least, "most": most}

    def set(self, limit: int) -> int:
        """Set the limit, wait until the device enforces it, and return the one that it does enforce."""
        self.journal.write_text(json.dumps({"limit": self.old}), encoding="utf-8")
        pynvml.nvmlDeviceSetPowerManagementLimit(self.handle, limit)
        end = time.monotonic() + HOLD_SECONDS
        steady = 0
        while True:
            held = pynvml.nvmlDeviceGetEnforcedPowerLimit(self.handle)
            steady = steady + 1 if held == limit else 0
            if steady >= STEADY_READINGS or time.monotonic() > end:
                return held
            time.sleep(READ_SECONDS)

    def restore(self) -> dict[str, Any]:
        """Set the old limit again, and forget the journal once it is."""
        for left in reversed(range(RESTORE_TRIES)):
            try:
                pynvml.nvmlDeviceSetPowerManagementLimit(self.handle, self.old)
                break
            except pynvml.NVMLError as error:
                if not left:
                    return {"error": f"the old power limit could not be restored: {error}"}
                time.sleep(READ_SECONDS)
        self.journal.unlink(missing_ok=True)
        return {"restored": self.old}


def say(answer: dict[str, Any]) -> None:
    """One line to the run, which may be gone."""
    with contextlib.suppress(OSError):
        print(json.dumps(answer), flush=True)


def main() -> None:
    def end(number: int, frame: object) -> NoReturn:
        sys.exit(0)

    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    try:
        guard = Guard(sys.argv[1], Path(sys.argv[2]))
        say(guard.begin())
    except (pynvml.NVMLError, Refused) as error:
        say({"error": str(error)})
        return
    try:
        for line in sys.stdin:
            try:
                say({"held": guard.set(json.loads(line)["set"])})
            except (pynvml.NVMLError, OSError) as error:
                say({"error": str(error)})
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(guard.restore())


if __name__ == "__main__":
    main()
