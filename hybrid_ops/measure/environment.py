"""What a measurement was made on and with."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

import hybrid_ops
from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.devices.nvml import Refusal, started
from hybrid_ops.measure.gpu import gpu_settings


def machine_facts(device: Device) -> dict[str, Any]:
    """The machine and device as they are written into `results.json`."""
    return {
        "platform": device.platform,
        "name": device.name,
        "class": device.device_class,
        "uuid": device.uuid,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "settings": device_settings(device),
    }


def device_settings(device: Device) -> dict[str, Any]:
    """How a GPU is set, null where it does not tell; empty for anything else and where NVML does not start."""
    if device.platform != "cuda":
        return {}
    try:
        with started():
            return gpu_settings(device)[0]
    except Refusal:
        return {}


def suite_versions(device: Device) -> dict[str, str]:
    """Versions of what runs the suite, and of a GPU's driver and the newest CUDA that it can run. Those of the engine
    come from its worker.
    """
    versions = {"python": platform.python_version(), "hybrid-ops": hybrid_ops.__version__, "source": _source_revision()}
    settings = device_settings(device)
    told = {"nvidia-driver": settings.get("driver"), "cuda-driver": settings.get("cuda")}
    return versions | {name: version for name, version in told.items() if version is not None}


def _source_revision() -> str:
    """The Git commit of this code, `+dirty` where files differ from it; `unknown` outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    folder = str(Path(hybrid_ops.__file__).parent)
    command = [git, "-C", folder, "describe", "--always", "--dirty=+dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
