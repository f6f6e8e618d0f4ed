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
from hybrid_ops.engines.devices import Device, nvidia_driver


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
    }


def suite_versions(device: Device) -> dict[str, str]:
    """Versions of what runs the suite, and of a GPU's driver. Those of the engine come from its worker."""
    versions = {"python": platform.python_version(), "hybrid-ops": hybrid_ops.__version__, "source": _source_revision()}
    if device.platform == "cuda" and (driver := nvidia_driver()) is not None:
        versions["nvidia-driver"] = driver
    return versions


def _source_revision() -> str:
    """The Git commit of this code, `+dirty` where files differ from it; `unknown` outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    folder = str(Path(hybrid_ops.__file__).parent)
    command = [git, "-C", folder, "describe", "--always", "--dirty=+dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
