"""Where engines run: which devices this machine has, and leases that keep two launches off the same one."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Device:
    """One thing that an engine can be launched on."""

    platform: str
    """`cpu` or `cuda`; `server` for a running server, whose device nobody here knows."""
    index: int
    """Number of the GPU as NVML counts; 0 for the CPU."""
    name: str
    device_class: str
    """The key of baselines that hold on such devices only, for example `nvidia-h200`."""
    uuid: str | None = None

    @property
    def environment(self) -> dict[str, str | None]:
        """Variables that make an engine see this device alone.

        On a CPU one core is left to everything else, as `vllm serve` does, unless OMP_NUM_THREADS says otherwise: where
        OpenMP has them all, each step waits for whichever thread was disturbed (measured on two cores with two live
        engines: launch pairs vary by 4.6 %, and by 2.6 % with one core left, at the same speed).
        """
        if self.platform == "cuda":
            return {"CUDA_VISIBLE_DEVICES": self.uuid or str(self.index)}
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) - 1))
        return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads}


@cache
def gpus() -> tuple[Device, ...]:
    """The NVIDIA GPUs that NVML shows and CUDA_VISIBLE_DEVICES allows; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if allowed is None else {part.strip() for part in allowed.split(",")}
    found = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name, uuid = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlDeviceGetUUID(handle))
            if wanted is None or str(index) in wanted or uuid in wanted:
                slug = _slug(name)
                found.append(Device("cuda", index, name, slug if slug.startswith("nvidia") else f"nvidia-{slug}", uuid))
    finally:
        pynvml.nvmlShutdown()
    return tuple(found)


def nvidia_driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return _text(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()


@cache
def cpu() -> Device:
    """This machine's processors, as one device."""
    name = "unknown processor"
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        name = match[1].strip() if match else name
    cores = len(os.sched_getaffinity(0))
    return Device("cpu", 0, f"{name}, {cores} cores", f"cpu-{_slug(name)}-{cores}c")


def server(url: str) -> Device:
    """A running server, as a device: what is measured on it compares with what was measured on it before."""
    return Device("server", 0, f"server at {url}", f"server-{_slug(url.partition('://')[2])}")


def devices(platform: str) -> tuple[Device, ...]:
    """All devices of `platform` (`cpu` or `cuda`)."""
    return gpus() if platform == "cuda" else (cpu(),)


@contextlib.contextmanager
def lease(candidates: tuple[Device, ...], waiting: Callable[[], None] = lambda: None) -> Iterator[Device]:
    """Hold one of `candidates` until the block ends, waiting for it if need be; `waiting` is called once then.

    The lock is a file lock of this user on this machine, so two test runs, or two workers of one run, never measure
    on the same device at once, and a process that dies gives its device back.
    """
    folder = Path(tempfile.gettempdir()) / f"hybrid-ops-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    while True:
        for device in candidates:
            with (folder / f"{device.platform}-{device.index}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield device
                return
        if not told:
            waiting()
            told = True
        time.sleep(POLL_SECONDS)


def _slug(name: str) -> str:
    """A name for folders: `Intel(R) Xeon(R) Processor @ 2.10GHz` becomes `intel-xeon-processor`."""
    name = re.sub(r"\((r|tm)\)|@.*$|\bcpu\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
