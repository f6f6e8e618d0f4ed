"""The power limit of a GPU, held while something is measured and restored by a guard process (`power_guard.py`)."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid_ops.engines.devices import Device
from hybrid_ops.errors import InputError

GUARD = Path(__file__).with_name("power_guard.py")
OPTION = "--perf-power-limits"
SWEEPS = "power_limits"
"""Where in `results.json` it stands at which power limit each case was measured."""
END_SECONDS = 10.0
"""How long the guard may take to restore the limit and end."""


class PowerLimitError(Exception):
    """A power limit cannot be held. The message says why."""


class _Guarded:
    """A guard process and the range of its GPU."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        first = self.answer()
        self.old, self.least, self.most = first["old"], first["least"], first["most"]

    def answer(self) -> dict[str, Any]:
        """The guard's next line. Raises PowerLimitError for a refusal."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise PowerLimitError("the guard of the power limit died")
        answer = json.loads(line)
        if "error" in answer:
            raise PowerLimitError(answer["error"])
        return answer

    def hold(self, watts: int) -> None:
        """Set the limit and wait until it holds. Raises PowerLimitError where the device holds another."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"set": watts * 1000}) + "\n")
        self.process.stdin.flush()
        if (held := self.answer()["held"]) != watts * 1000:
            raise PowerLimitError(f"the GPU enforces {held / 1000:g} W, not {watts} W: it was clamped")


@contextmanager
def _guarded(device: Device) -> Iterator[_Guarded]:
    """The device in the care of a guard, which has restored the old limit when the block has ended.

    Raises PowerLimitError where the limit may not be set, and where it could not be restored.
    """
    folder = Path(tempfile.gettempdir()) / f"hybrid-ops-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-P", str(GUARD), device.uuid or str(device.index), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C, and a kill of the run's process group, must not reach it
    )
    assert process.stdin is not None
    try:
        guarded = _Guarded(process)
        yield guarded
        process.stdin.close()
        guarded.answer()  # that it has restored the limit
    finally:
        process.stdin.close()
        process.wait(END_SECONDS)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def power_limit(device: Device, watts: int | None) -> Iterator[None]:
    """Hold a power limit while the block runs; none for None. Raises PowerLimitError."""
    if watts is None:
        yield
        return
    with _guarded(device) as guarded:
        guarded.hold(watts)
        yield


def check_power_limits(device: Device, limits: Sequence[int]) -> None:
    """Raise InputError unless the power limit of the device may be set to each of these, in watts.

    That is found out by setting the limit to what it is.
    """
    if not limits:
        return
    if device.platform != "cuda":
        raise InputError(f"{OPTION}: only a GPU has a power limit to set; this run measures on {device.name}")
    try:
        with _guarded(device) as guarded:
            least, most = guarded.least / 1000, guarded.most / 1000
    except PowerLimitError as error:
        raise InputError(
            f"{OPTION}: {device.name} does not let its power limit be set: {error}; nothing was changed. "
            "It takes root, and a GPU that supports it"
        ) from None
    if outside := [watts for watts in limits if not least <= watts <= most]:
        named = ", ".join(map(str, outside))
        raise InputError(f"{OPTION}: {device.name} takes {least:g} to {most:g} W, not {named}; nothing was changed")


def parse_power_limits(text: str | None) -> tuple[int, ...]:
    """`600,500,450` as whole watts. Raises InputError."""
    if text is None:
        return ()
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words) or len(set(words)) < len(words):
        raise InputError(f"{OPTION}: different whole numbers of watts such as 600,500,450, not {text!r}")
    return tuple(map(int, words))
