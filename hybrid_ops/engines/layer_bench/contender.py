"""What takes part in a comparison, as data that is read without importing torch or any peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hybrid_ops.layers.masks import MaskMod

Function = Callable[..., Any]
"""Takes a layer's inputs in their order and does one whole forward pass."""

PLATFORMS = ("cpu", "cuda")
PLATFORM_DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
"""In which type the inputs are on each platform: the one that its fast kernels are made for, for all contenders alike,
so that no conversion is timed on a GPU and no ratio is one of types."""
CHECKED_TOKENS = 300
"""The length at which contenders are held against the recurrent forms: not a multiple of any chunk."""


def first(result: Any) -> Any:
    """The output of a function that gives it alone, or in front of its final state."""
    return result[0] if isinstance(result, tuple) else result


@dataclass(frozen=True)
class KnownFailure:
    """What a contender cannot do on a platform, as its own code says it."""

    platform: str
    direction: str
    reason: str
    matches: str
    """Regular expression found in the error. Another error is a real failure."""


@dataclass(frozen=True)
class Contender:
    """One way to compute a layer, ours or another's."""

    name: str
    make: Callable[[Shape, torch.device], Function]
    """Imports the code and gives the function for one shape and device. What it prepares is not timed."""
    dtype: str | None = None
    """The type that it rounds its inputs to, such as "bfloat16"; None: it computes in the inputs' own. How far it may
    be from the reference follows from it."""
    output: Callable[[Any], Tensor] = first
    """The output in the reference's layout, from what the function returns."""
    has_backward: bool = True
    is_yardstick: bool = False
    """It computes something else on purpose, so that it has a time to compare with and no output."""
    platforms: tuple[str, ...] = PLATFORMS
    is_installed: Callable[[], bool] = lambda: True
    """Whether this interpreter has its code; imports nothing."""
    known_failures: tuple[KnownFailure, ...] = ()
    flops: Callable[[Shape], float] | None = None
    """Floating-point operations of its forward pass, where it computes something else than the layer."""


@dataclass(frozen=True)
class Layer:
    """One layer and everyone who computes it."""

    name: str
    inputs: Callable[[Shape, torch.device], dict[str, Tensor]]
    """New random float32 inputs by name, in the order in which every contender takes them. They are rounded to the
    type of the case afterwards, but for `gates`."""
    reference: Callable[[Shape], Function]
    """The layer as its definition reads, exact to the last digits when its inputs are float64."""
    contenders: tuple[Contender, ...]
    """The first is "ours"."""
    gates: tuple[str, ...] = ()
    """Inputs that stay in float32 whatever the type of the others, as the kernels take them."""
    parameters: tuple[str, ...] = ()
    """Inputs without a batch and a time axis; all others are [B, T, ...]."""
    checked_tokens: Callable[[Shape], int] = lambda shape: CHECKED_TOKENS
    """The length at which contenders are held against `reference`."""
    most_backward_tokens: int | None = None
    """Longest sequence of the backward case, where a peer is too slow for more."""
    flops: Callable[[Shape], int] | None = None
    """Floating-point operations of the forward pass, those of hidden pairs of an attention layer included."""
    backward_flops: float = 2.0
    """How many times as many the backward pass has."""
    mask: Callable[[Shape, torch.device], MaskMod] | None = None
    """Which keys a query of an attention layer sees; None: all, or no attention."""
    title: str = ""
    """Its heading in a table, with fields of the shape in braces."""
