"""The GPUs of this machine: whole cards and MIG instances, those that CUDA_VISIBLE_DEVICES shows, in its order."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hybrid_ops.engines.devices.device import Device, slug
from hybrid_ops.engines.devices.nvml import Refusal, ask, started
from hybrid_ops.errors import InputError
from hybrid_ops.models.devices import MigSlice

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
MEMORY_EIGHTHS = 8
"""MIG names a share of a card's memory by whole eighths of it, rounded up."""


@dataclass
class _Card:
    """What NVML says of one card."""

    device: Device
    is_mig: bool
    """Whether it is in MIG mode: then it is used by its instances only."""
    instances: list[Device] = field(default_factory=list)
    places: dict[str, Device] = field(default_factory=dict)
    """Its instances by `<GPU instance>/<compute instance>`, as names of before driver 470 have them."""

    @property
    def usable(self) -> list[Device]:
        return self.instances if self.is_mig else [self.device]


@dataclass(frozen=True)
class _Found:
    devices: tuple[Device, ...]
    problem: str
    """Why there are none."""


@cache
def gpus() -> tuple[Device, ...]:
    """The GPUs and MIG instances that an engine may be given; none where there is no driver.

    They have the order of CUDA_VISIBLE_DEVICES, or NVML's without it. Raises InputError where that variable does not
    say clearly which devices it means.
    """
    return _find().devices


def why_no_gpu() -> str:
    """Why `gpus` finds none, in a few words. Raises InputError as `gpus` does."""
    return _find().problem


def _find() -> _Found:
    refused: list[str] = []
    try:
        with started():
            cards = []
            for index in range(ask("nvmlDeviceGetCount")):
                try:
                    cards.append(_card(index))
                except Refusal as refusal:
                    refused.append(f"card {index} cannot be read ({refusal})")
    except Refusal as refusal:
        return _Found((), f"NVML does not start ({refusal})")
    present = [device for card in cards for device in card.usable]
    if not present:
        empty = [f"{card.device.uuid} is in MIG mode and has no instance" for card in cards if card.is_mig]
        return _Found((), "; ".join(["NVML shows no GPU on this machine", *refused, *empty]))
    variable = os.environ.get(VISIBLE)
    if variable is None:
        return _Found(tuple(present), "")
    uuids = ", ".join(str(device.uuid) for device in present)
    return _Found(tuple(_visible(cards, variable)), f"{VISIBLE}={variable} shows none of {uuids}")


def _card(index: int) -> _Card:
    """Raises Refusal for a card that does not even tell its name."""
    handle = ask("nvmlDeviceGetHandleByIndex", index)
    name, uuid = ask("nvmlDeviceGetName", handle), ask("nvmlDeviceGetUUID", handle)
    of_name = slug(name)
    device_class = of_name if of_name.startswith("nvidia") else f"nvidia-{of_name}"
    card = _Card(Device("cuda", index, name, device_class, uuid), _is_in_mig_mode(handle))
    if card.is_mig:
        for number in range(ask("nvmlDeviceGetMaxMigDeviceCount", handle)):
            try:
                instance = ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
            except Refusal:
                continue  # their numbers have gaps
            _add_instance(card, handle, instance)
    return card


def _is_in_mig_mode(handle: Any) -> bool:
    try:
        return bool(ask("nvmlDeviceGetMigMode", handle)[0])
    except Refusal:
        return False  # a card that has no such mode


def _add_instance(card: _Card, handle: Any, instance: Any) -> None:
    whole = card.device
    sizes = ask("nvmlDeviceGetAttributes", instance)
    memory = ask("nvmlDeviceGetMemoryInfo", handle).total
    eighths = math.ceil(MEMORY_EIGHTHS * sizes.memorySizeMB * 2**20 / memory - 0.01)
    profile = _profile(ask("nvmlDeviceGetName", instance)) or _profile_of_sizes(sizes, eighths, memory)
    part = MigSlice(profile, sizes.multiprocessorCount, eighths / MEMORY_EIGHTHS)
    device = Device(
        "cuda",
        whole.index,
        f"{whole.name} MIG {profile}",
        f"{whole.device_class}-mig-{profile}",
        ask("nvmlDeviceGetUUID", instance),
        part,
    )
    card.instances.append(device)
    place = "/".join(
        str(ask(question, instance)) for question in ("nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId")
    )
    card.places[place] = device


def _profile(name: str) -> str | None:
    """`1c.3g.40gb` of `NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb`."""
    match = re.search(r" MIG ((?:\d+c\.)?\d+g\.\d+gb(?:\+[a-z.]+)?)$", name)
    return match[1] if match else None


def _profile_of_sizes(sizes: Any, eighths: int, memory: int) -> str:
    """The name that NVIDIA's MIG user guide gives to an instance of these sizes (chapter "MIG Device Names")."""
    gigabytes = math.floor(math.ceil(memory / 2**30) * eighths / MEMORY_EIGHTHS + 0.5)
    part = f"{sizes.gpuInstanceSliceCount}g.{gigabytes}gb"
    if sizes.computeInstanceSliceCount == sizes.gpuInstanceSliceCount:
        return part
    return f"{sizes.computeInstanceSliceCount}c.{part}"


def _visible(cards: list[_Card], variable: str) -> list[Device]:
    """The devices that CUDA_VISIBLE_DEVICES shows, by the rules of the CUDA programming guide ("CUDA environment
    variables"): numbers, UUIDs or beginnings of UUIDs; what stands behind a name that fits nothing is not visible.
    """
    found: list[Device] = []
    for part in variable.split(","):
        named = _named(cards, part.strip())
        if not named:
            break
        if len(named) > 1:
            names = ", ".join(str(device.uuid) for device in named)
            raise InputError(f"{VISIBLE}: {part.strip()} begins {len(named)} names ({names}): write more of it")
        found += named
    for device, count in Counter(found).items():
        if count > 1:
            raise InputError(f"{VISIBLE}: {device.uuid} is named {count} times: name each device once")
    return found


def _named(cards: list[_Card], name: str) -> list[Device]:
    """Every device that one part of CUDA_VISIBLE_DEVICES may mean."""
    if name.isdigit():
        return _numbered(cards, int(name))
    if match := re.fullmatch(r"MIG-(GPU-[^/]+)/(\d+/\d+)", name):
        return [card.places[match[2]] for card in cards if card.device.uuid == match[1] and match[2] in card.places]
    if name.startswith("MIG-"):
        return [part for card in cards for part in card.instances if _begins(part, name)]
    if name.startswith("GPU-"):
        return [_whole(card, name) for card in cards if _begins(card.device, name)]
    return []


def _numbered(cards: list[_Card], number: int) -> list[Device]:
    """The card with CUDA's number. It is NVML's where all cards are alike, or where CUDA counts along the bus too."""
    if number >= len(cards):
        return []
    if len({card.device.name for card in cards}) > 1 and os.environ.get(ORDER) != "PCI_BUS_ID":
        raise InputError(
            f"{VISIBLE}={number}: the cards of this machine differ, and CUDA numbers the fastest first: name UUIDs "
            f"(nvidia-smi -L), or set {ORDER}=PCI_BUS_ID"
        )
    return [_whole(cards[number], str(number))]


def _whole(card: _Card, name: str) -> Device:
    """A whole card. Raises InputError for one in MIG mode, of which CUDA would take whichever instance comes first."""
    if card.is_mig:
        raise InputError(
            f"{VISIBLE}: {name} is in MIG mode: name one of its instances: "
            f"{', '.join(str(part.uuid) for part in card.instances) or 'it has none'}"
        )
    return card.device


def _begins(device: Device, name: str) -> bool:
    return device.uuid is not None and device.uuid.lower().startswith(name.lower())
