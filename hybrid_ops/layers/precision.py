"""In which precision the layers compute.

Everything is computed in promote(inputs, float32): bfloat16 and float16 compute in float32, and float64 stays float64,
which is what makes finite-difference checks and the 1e-12 comparisons possible. Outputs return in the dtype of the
inputs; recurrent states stay in the compute dtype, because rounding the state at each step accumulates (a bfloat16
state costs 1.6e-2 relative where a float32 state costs 3e-7).
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


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Run a layer with autocast switched off, on the device of its first argument.

    Autocast would otherwise round the operands of each matmul inside to bfloat16, whatever dtype the layer chose.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0] if args else next(iter(kwargs.values()), None)
        kind = first.device.type if isinstance(first, Tensor) else "meta"
        if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
            return function(*args, **kwargs)
        with torch.autocast(kind, enabled=False):
            return function(*args, **kwargs)

    return wrapped
