"""How well a device was used: MFU, MBU, arithmetic intensity and the share of the roofline that was reached.

Model FLOPs utilisation (arXiv 2204.02311, appendix B) and model bandwidth utilisation are the model's FLOPs and bytes
(`cost.py` says which) a second, over the peak. The roofline (Williams et al., CACM 52(4), 2009) bounds each phase by
the slower of its arithmetic and its memory traffic.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from hybrid_ops.models.cost import Cost, GenerationCost, generation_cost
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.models.stack import ModelStack


@dataclass(frozen=True)
class Bound:
    """The least time that a phase can take."""

    seconds: float
    by: str
    """`compute` or `memory`, whichever is the slower."""


@dataclass(frozen=True)
class Utilisation:
    """How much of a device's peaks a batch used, from its prompts to its last token. All shares are of 1."""

    mfu: float
    """Model FLOPs a second over peak FLOP/s."""
    mbu: float
    """Bytes moved a second over peak bytes/s."""
    arithmetic_intensity: float
    """FLOPs a byte moved."""
    ridge_intensity: float
    """FLOPs a byte above which the device is bound by its arithmetic."""
    bound_seconds: float
    """The roofline's least time: of the prefill and of the decode, added."""
    bound_by: str
    """What bounds the longer phase: `compute` or `memory`."""
    roofline_share: float
    """`bound_seconds` over the elapsed time: 1 is the roofline itself."""

    def as_dict(self) -> dict[str, float | str]:
        return asdict(self)


def roofline_bound(cost: Cost, device: DevicePeaks, *, devices: int = 1, dtype: str = "bfloat16") -> Bound:
    """The least time of one phase on `devices` equal devices that share its work evenly.

    `dtype` is the data type of its arithmetic. Raises InputError when the device has no peak for it.
    """
    compute = cost.flops.total / (devices * device.peak_flops(dtype))
    memory = cost.bytes.total / (devices * device.bandwidth)
    return Bound(max(compute, memory), "compute" if compute > memory else "memory")


def utilisation(
    cost: GenerationCost, elapsed_seconds: float, device: DevicePeaks, *, devices: int = 1, dtype: str = "bfloat16"
) -> Utilisation:
    """The utilisation of a batch that took `elapsed_seconds` on `devices` equal devices.

    Raises ValueError when the time is not positive and finite: a zero is not a measurement.
    """
    if not (math.isfinite(elapsed_seconds) and elapsed_seconds > 0):
        raise ValueError(f"elapsed time {elapsed_seconds} s is not a measurement")
    total = cost.total
    phases = [roofline_bound(phase, device, devices=devices, dtype=dtype) for phase in (cost.prefill, cost.decode)]
    bound_seconds = sum(phase.seconds for phase in phases)
    return Utilisation(
        mfu=total.flops.total / elapsed_seconds / (devices * device.peak_flops(dtype)),
        mbu=total.bytes.total / elapsed_seconds / (devices * device.bandwidth),
        arithmetic_intensity=total.arithmetic_intensity,
        ridge_intensity=device.peak_flops(dtype) / device.bandwidth,
        bound_seconds=bound_seconds,
        bound_by=max(phases, key=lambda phase: phase.seconds).by,
        roofline_share=bound_seconds / elapsed_seconds,
    )


def generation_utilisation(
    model: ModelStack,
    *,
    batch: int,
    prompt: int,
    generation: int,
    elapsed_seconds: float,
    device: DevicePeaks,
    devices: int = 1,
    cached: int = 0,
    prefill_steps: int = 1,
    cache_dtype: str | None = None,
    state_dtype: str | None = None,
) -> Utilisation:
    """`utilisation` of `batch` prompts of `prompt` tokens that each generated `generation` tokens, all at once."""
    cost = generation_cost(
        model,
        batch,
        prompt,
        generation,
        cached=cached,
        prefill_steps=prefill_steps,
        cache_dtype=cache_dtype,
        state_dtype=state_dtype,
    )
    return utilisation(cost, elapsed_seconds, device, devices=devices, dtype=model.dtype)
