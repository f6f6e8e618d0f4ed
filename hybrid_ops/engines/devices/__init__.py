"""Where engines run: which devices this machine has, and leases that keep two launches off the same one."""

from __future__ import annotations

from hybrid_ops.engines.devices.device import Device, cpu, server
from hybrid_ops.engines.devices.gpus import gpus, why_no_gpu
from hybrid_ops.engines.devices.leases import lease

__all__ = ["Device", "alike", "cpu", "devices", "gpus", "lease", "server", "why_no_gpu"]


def devices(platform: str) -> tuple[Device, ...]:
    """All devices of `platform` (`cpu` or `cuda`)."""
    return gpus() if platform == "cuda" else (cpu(),)


def alike(device: Device) -> tuple[Device, ...]:
    """The devices of this machine that are of the same class as `device`, whose times compare with each other."""
    return tuple(other for other in devices(device.platform) if other.device_class == device.device_class)
