"""What is compared: the layers, the cases, and who takes part in each. Read without importing torch or any peer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hybrid_ops.engines.layer_bench.attention import ATTENTION
from hybrid_ops.engines.layer_bench.contender import Contender, Function, Layer
from hybrid_ops.engines.layer_bench.convolution import CONVOLUTION
from hybrid_ops.engines.layer_bench.delta_rule import DELTA_RULE
from hybrid_ops.engines.layer_bench.selective_scan import SELECTIVE_SCAN
from hybrid_ops.engines.layer_bench.shape import Shape
from hybrid_ops.engines.layer_bench.ssd import SSD
from hybrid_ops.engines.layer_bench.window import WINDOW

if TYPE_CHECKING:
    import torch

LAYERS: dict[str, Layer] = {layer.name: layer for layer in (DELTA_RULE, SSD, SELECTIVE_SCAN, WINDOW)}
"""Whose ratios to their peers are followed, forward and with the gradient."""
KERNELS: dict[str, Layer] = {layer.name: layer for layer in (*ATTENTION, SSD, SELECTIVE_SCAN, DELTA_RULE, CONVOLUTION)}
"""Of which every contender's passes are followed, each by itself."""
DIRECTIONS = ("forward", "backward")
"""Backward is forward and backward together."""
CASES = tuple(f"{layer}/{direction}" for layer in LAYERS for direction in DIRECTIONS)
KERNEL_CASES = tuple(f"{kernel}/{direction}" for kernel in KERNELS for direction in DIRECTIONS)


def layer_and_direction(case: str) -> tuple[Layer, str]:
    """The two halves of a case's name, such as "ssd/backward".

    Raises:
        ValueError: the case is not one of `CASES` or `KERNEL_CASES`.
    """
    known = dict.fromkeys((*CASES, *KERNEL_CASES))
    if case not in known:
        raise ValueError(f"case: {case!r} is not one of {', '.join(known)}")
    name, direction = case.split("/")
    return LAYERS.get(name) or KERNELS[name], direction


def contenders(case: str, platform: str, *, compiled: bool = False) -> list[Contender]:
    """Who takes part in a case under this interpreter: those whose code is installed and runs there.

    Args:
        case: one of `CASES` or `KERNEL_CASES`.
        platform: "cpu" or "cuda".
        compiled: also our form under `torch.compile`, as "ours, compiled".

    Returns:
        "ours" first.

    Raises:
        ValueError: the case is not known.
    """
    layer, direction = layer_and_direction(case)
    found = [contender for contender in layer.contenders if _absence(contender, direction, platform) is None]
    return [*found, _compiled(found[0])] if compiled else found


def absent_contenders(case: str, platform: str) -> dict[str, str]:
    """Who takes no part in a case under this interpreter, and why, by name.

    Raises:
        ValueError: the case is not known.
    """
    layer, direction = layer_and_direction(case)
    absences = {contender.name: _absence(contender, direction, platform) for contender in layer.contenders}
    return {name: reason for name, reason in absences.items() if reason is not None}


def _absence(contender: Contender, direction: str, platform: str) -> str | None:
    """Why a contender takes no part; None where it does."""
    if platform not in contender.platforms:
        return f"runs on {' and '.join(contender.platforms)} alone"
    if direction == "backward" and not contender.has_backward:
        return "has no backward pass"
    return None if contender.is_installed() else "is not installed"


def timed_shape(case: str, shape: Shape) -> Shape:
    """The shape at which a case is timed: `shape`, or fewer tokens where the case cannot take so many."""
    layer, direction = layer_and_direction(case)
    if direction == "forward" or layer.most_backward_tokens is None:
        return shape
    return shape.with_tokens(min(shape.tokens, layer.most_backward_tokens))


def _compiled(ours: Contender) -> Contender:
    def make(shape: Shape, device: torch.device) -> Function:
        import torch

        return torch.compile(ours.make(shape, device), dynamic=False)

    return dataclasses.replace(ours, name=f"{ours.name}, compiled", make=make)
