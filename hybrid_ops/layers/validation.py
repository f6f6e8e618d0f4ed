"""The one place where arguments are checked.

A check raises `ValueError` (shapes, ranges, devices) or `TypeError` (dtypes) and its message always starts with the
name of the argument at fault, so that a wrong call reads as `beta: values must lie in [0, 2], ...`.

Shapes are written as the docstrings write them: `"B T H K"`. A letter is bound by the first argument that shows it
and must agree wherever it returns; `W-1` is one less than W; a leading `...` stands for any dimensions.
"""

from itertools import pairwise

import torch
from torch import Tensor

Specification = tuple[Tensor | None, str]


def check_shapes(**arguments: Specification) -> dict[str, int]:
    """Check that tensors have the shapes that their specifications spell, are floating point and share one device.

    Args:
        arguments: for each argument its tensor (or None where it is optional and absent) and its specification:
            names separated by blanks, such as `"B T H K"`.

    Returns:
        The size of each named dimension.

    Raises:
        TypeError: an argument is not a tensor, or not of a floating dtype.
        ValueError: an argument's rank, a dimension or its device disagrees with what came before.
    """
    sizes: dict[str, int] = {}
    first: tuple[str, Tensor] | None = None
    for name, (tensor, specification) in arguments.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
        if first is None:
            first = (name, tensor)
        elif tensor.device != first[1].device:
            raise ValueError(f"{name}: is on {tensor.device}, but {first[0]} is on {first[1].device}")
        letters = specification.split()
        named = [letter for letter in letters if letter != "..."]
        shape = tuple(tensor.shape)
        if len(shape) < len(named) or (len(shape) > len(named) and "..." not in letters):
            raise ValueError(f"{name}: expected {len(named)} dimensions [{', '.join(letters)}], got shape {shape}")
        for letter, size in zip(named, shape[len(shape) - len(named) :], strict=True):
            wanted = sizes[letter[:-2]] - 1 if letter.endswith("-1") else sizes.setdefault(letter, size)
            if wanted != size:
                raise ValueError(
                    f"{name}: expected shape [{', '.join(letters)}] with {letter} = {wanted}, got shape {shape}"
                )
    return sizes


def check_same_dtype(**arguments: Tensor) -> None:
    """Check that the named tensors share one dtype; raise a `TypeError` that names the first that does not."""
    (first_name, first), *others = arguments.items()
    for name, tensor in others:
        if tensor.dtype != first.dtype:
            raise TypeError(f"{name}: has dtype {tensor.dtype}, but {first_name} has {first.dtype}")


def check_range(name: str, tensor: Tensor | None, low: float, high: float, why: str) -> None:
    """Check that every value lies in [low, high]; NaN passes, so that it reaches the output instead of hiding.

    Skipped while `torch.compile` traces: a check on values would break the graph.

    Raises:
        ValueError: a value lies outside; the message names the argument and says why the range holds.
    """
    if tensor is None or tensor.numel() == 0 or torch.compiler.is_compiling():
        return
    smallest, largest = (bound.item() for bound in torch.aminmax(tensor.detach()))
    if smallest < low or largest > high:
        raise ValueError(
            f"{name}: values must lie in [{low:g}, {high:g}] ({why}), got values from {smallest:g} to {largest:g}"
        )


def check_positive_integer(name: str, value: int) -> None:
    """Check that a size, such as a window or a chunk, is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: must be at least 1, got {value}")


def check_multiple(name: str, value: int, of_name: str, of: int) -> None:
    """Check that a head count is a multiple of another, as grouped heads need."""
    if of < 1 or value % of:
        raise ValueError(f"{name}: its head count {value} must be a multiple of the head count {of} of {of_name}")


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Check that an option is one of a closed set."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def sequence_boundaries(cu_seqlens: Tensor, batch: int, tokens: int) -> list[int]:
    """Check packed-sequence boundaries and give them as integers.

    Args:
        cu_seqlens: [N + 1] int32 or int64, cumulative lengths: sequence n is tokens cu_seqlens[n] to
            cu_seqlens[n + 1] - 1. It starts at 0, ends at `tokens` and never falls; empty sequences are allowed.
        batch: the batch size of the packed tensors, which must be 1.
        tokens: their number of tokens.

    Returns:
        The N + 1 boundaries.

    Raises:
        TypeError, ValueError: naming `cu_seqlens`.
    """
    if not isinstance(cu_seqlens, Tensor) or cu_seqlens.dtype not in (torch.int32, torch.int64):
        given = getattr(cu_seqlens, "dtype", type(cu_seqlens).__name__)
        raise TypeError(f"cu_seqlens: expected an int32 or int64 tensor, got {given}")
    if cu_seqlens.dim() != 1 or cu_seqlens.numel() < 2:
        raise ValueError(f"cu_seqlens: expected shape [N + 1] with N of at least 1, got {tuple(cu_seqlens.shape)}")
    if batch != 1:
        raise ValueError(f"cu_seqlens: packed sequences need a batch of 1, got a batch of {batch}")
    boundaries = [int(boundary) for boundary in cu_seqlens.tolist()]
    if boundaries[0] != 0 or boundaries[-1] != tokens:
        raise ValueError(
            f"cu_seqlens: must start at 0 and end at the number of tokens {tokens}, "
            f"got {boundaries[0]} and {boundaries[-1]}"
        )
    if any(later < earlier for earlier, later in pairwise(boundaries)):
        raise ValueError(f"cu_seqlens: must not decrease, got {boundaries}")
    return boundaries
