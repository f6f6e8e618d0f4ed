"""Where engines run: which devices this machine has, and leases that keep two launches off the same one."""

from __future__ import annotations

from hybrid_ops.engines.devices.device import Device, cpu, divided, server
from hybrid_ops.engines.devices.gpus import gpus, why_no_gpu
from hybrid_ops.engines.devices.leases import lease
from hybrid_ops.engines.devices.placement import (
    alike,
    devices,
    most_at_once,
    placed,
    placed_beside,
    placed_class,
    shortage,
)

__all__ = [
    "Device",
    "alike",
    "cpu",
    "devices",
    "divided",
    "gpus",
    "lease",
    "most_at_once",
    "placed",
    "placed_beside",
    "placed_class",
    "server",
    "shortage",
    "why_no_gpu",
]
