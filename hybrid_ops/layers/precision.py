"""In which precision the layers compute.

Everything is computed in promote(inputs, float32): bfloat16 and float16 compute in float32, and float64 stays float64,
which is what makes finite-difference checks and the 1e-12 comparisons possible. Outputs return in the dtype of the
inputs; recurrent states stay in the compute dtype, because rounding the state at each step accumulates (a bfloat16
state costs 1.6e-2 relative where a float32 state costs 3e-7).

Arguments may differ in dtype where a docstring says so. Each is widened as it is, so that a float32 gate beside
bfloat16 values keeps all its digits, and nothing is rounded before the output.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype to compute in: the promotion of all given tensors' dtypes with float32."""
    dtype = torch.float32
    for tensor in tensors:
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def widen(x: Tensor) -> Tensor:
    """x in its compute dtype: for gates, whose softplus and exponentials must not be rounded to bfloat16."""
    return x.to(compute_dtype(x))


def finite_rate(rate: Tensor, dtype: torch.dtype) -> Tensor:
    """A rate of decay in the compute dtype, with −∞ (forget everything) replaced by the dtype's lowest number.

    Any step above 1e-30 times that number still gives a decay of exactly 0, and a gradient of 0 where a factor of −∞
    would make NaN of it. A step of 0 times that number is 0, no decay, where 0 · −∞ would be NaN.
    """
    return rate.to(dtype).clamp(min=torch.finfo(dtype).min)


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Run a layer with autocast switched off, on the device of its first tensor.

    Autocast would otherwise round the operands of each matmul inside to bfloat16, whatever dtype the layer chose.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        # An option may come before the first tensor where all arguments are given by name.
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        kind = next((tensor.device.type for tensor in tensors), "meta")
        if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
            return function(*args, **kwargs)
        with torch.autocast(kind, enabled=False):
            return function(*args, **kwargs)

    return wrapped
