"""Placement: the devices of one launch, leased together and seen by its engine as one device.

A launch on GPUs has one of them for each rank of its engine. On a CPU it has the whole machine, or as many cores as it
asks for, to which it is bound. A launch whose times are to count has its neighbours' devices too, unless this machine
was seen to keep them apart (`hybrid-perf isolation`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hybrid_ops.engines.devices.device import Device, cpu, cpu_cores
from hybrid_ops.engines.devices.gpus import gpus
from hybrid_ops.engines.devices.leases import lease
from hybrid_ops.errors import InputError


def devices(platform: str) -> tuple[Device, ...]:
    """All devices of `platform` (`cpu` or `cuda`), each with what an engine has of it by default."""
    return gpus() if platform == "cuda" else (cpu(),)


def alike(device: Device) -> tuple[Device, ...]:
    """What leases are made of on this machine: the GPUs of the same class as `device`, or the cores of its CPU."""
    if device.platform == "cuda":
        return tuple(other for other in gpus() if other.device_class == device.device_class)
    return cpu_cores() if device.platform == "cpu" else (device,)


def most_at_once(device: Device, count: int | None) -> int:
    """How many launches of `count` devices like `device` this machine has room for at the same time."""
    if count is None and device.platform == "cpu":
        return 1
    return len(alike(device)) // (count or 1)


def placed_class(device_class: str, platform: str, count: int | None) -> str:
    """The class of `count` devices of a class, whose times compare with each other.

    `nvidia-h200x2` is two GPUs. `cpu-amd-epyc-avx2-1of2c` is one core of a machine of two: how many cores the machine
    has stays in it, because they share its caches, its memory and its clocks. None is what a launch has by default:
    one GPU, or a whole CPU.
    """
    if count is None or (platform != "cpu" and count == 1):
        return device_class
    if platform == "cpu":
        return re.sub(r"(\d+)c$", rf"{count}of\1c", device_class)
    return f"{device_class}x{count}"


def shortage(platform: str, count: int | None) -> str | None:
    """In what this machine lacks the devices for a launch of `count` of them; None where it has enough.

    Where there is no device of the platform at all, others say so.
    """
    found = devices(platform)[:1] if count is not None and platform in ("cpu", "cuda") else ()
    there = len(alike(found[0])) if found else count
    if count is None or there is None or count <= there:
        return None
    return f"it asks for {count} {'cores' if platform == 'cpu' else 'GPUs of one class'}, and this machine has {there}"


def joined(device: Device, units: Sequence[Device], count: int | None) -> Device:
    """Leased `units`, which are like `device`, as the one device that an engine sees."""
    own = placed_class(device.device_class, device.platform, count)
    if device.platform == "cpu":
        if count is None:
            return device
        cores = tuple(core for unit in units for core in unit.cores)
        told = ", ".join(map(str, cores))
        return replace(device, name=f"{device.name}, bound to {told}", device_class=own, cores=cores)
    if len(units) == 1:
        return units[0]
    return replace(units[0], name=f"{len(units)} × {units[0].name}", device_class=own, uuid=None, members=tuple(units))


@contextlib.contextmanager
def placed(
    device: Device,
    count: int | None = None,
    *,
    is_alone: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Device]:
    """Lease what a launch of `count` devices like `device` needs until the block ends, and give it as one device.

    `is_alone`: nobody else is to use any of them meanwhile. Raises InputError for more devices than there are.
    """
    units = alike(device)
    everything = is_alone or (device.platform == "cpu" and count is None)
    wanted = 1 if count is None else count
    with lease(units, len(units) if everything else wanted, tell) as held:
        yield joined(device, held[:wanted], count)


@contextlib.contextmanager
def placed_beside(
    device: Device, count: int | None, tell: Callable[[str], None] = lambda text: None
) -> Iterator[list[Device]]:
    """Lease all devices like `device`, for as many launches of `count` of them as there is room for side by side.

    Raises InputError where that is not two.
    """
    units, wanted = alike(device), 1 if count is None else count
    if most_at_once(device, count) < 2:
        kind = "cores" if device.platform == "cpu" else f"devices of {device.device_class}"
        raise InputError(f"two engines of {wanted} {kind} each do not fit: this machine has {len(units)}")
    with lease(units, len(units), tell) as held:
        yield [
            joined(device, held[first : first + wanted], count) for first in range(0, len(held) - wanted + 1, wanted)
        ]
