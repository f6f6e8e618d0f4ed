"""Bytes that training takes, by part, and what is said where there are not enough."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hybrid_ops.engines.layer_bench.memory import peak_allocation
from hybrid_ops.engines.protocol import TrainingMemory
from hybrid_ops.engines.training_bench.trainer import Trainer

UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
"""How torch says what it could not have: `you tried to allocate 4294967296 bytes` on a processor, `Tried to allocate
2.00 GiB` on a GPU."""


class OutOfMemoryError(RuntimeError):
    """Training asked for more memory than there is. The message has the bytes."""


def measure_memory(trainer: Trainer) -> TrainingMemory:
    """Make two steps and return what they take.

    The peak is that of a step as it is made. For the activations the gradients of the step before are kept, so that
    whatever comes and goes is not a gradient: they are the most that forward and backward passes have at one time.
    """
    device = trainer.device
    weights = tensor_bytes([*trainer.parameters, *trainer.model.buffers()])
    kept = optimizer_bytes(trainer.optimizer)
    gradients = tensor_bytes([one.grad for one in trainer.parameters if one.grad is not None])
    trainer.optimizer.zero_grad()
    peak = weights + kept + peak_allocation(trainer.step, device)
    trainer.keeps_gradients = True
    activations = peak_allocation(trainer.step, device)
    trainer.keeps_gradients = False
    return TrainingMemory(weights, gradients, kept, activations, peak)


def tensor_bytes(tensors: list[Any]) -> int:
    """Bytes of tensors, each counted once."""
    return sum({id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of what an optimizer keeps of each parameter."""
    states = optimizer.state.values()
    return tensor_bytes([value for state in states for value in state.values() if isinstance(value, torch.Tensor)])


@contextlib.contextmanager
def telling_the_bytes(device: str) -> Iterator[None]:
    """Raise OutOfMemoryError with the bytes asked for in place of torch's own error."""
    told = None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        found = ASKED.search(str(error))
        if found is None and not isinstance(error, MemoryError) and "bad_alloc" not in str(error):
            raise
        asked = "an unknown number of" if found is None else round(float(found[1]) * UNITS[found[2]])
        told = f"out of memory: {asked} bytes more were asked for beside {held_bytes(device)} bytes held"
        traceback.clear_frames(error.__traceback__)  # which hold the tensors of the step
    if told is not None:
        raise OutOfMemoryError(told)


def give_back(device: str) -> None:
    """Return to the system, or to the GPU, what was freed."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def held_bytes(device: str) -> int:
    """Bytes that are allocated on the device, or, on a CPU, that the process has in memory."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(resident[1]) if resident else 0


def limit_memory(limit: int | None, device: str) -> None:
    """Let the process allocate so many bytes more than it holds now, and no more."""
    if limit is None:
        return
    if device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
        return
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    assert held is not None
    most = 1024 * int(held[1]) + limit
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))
