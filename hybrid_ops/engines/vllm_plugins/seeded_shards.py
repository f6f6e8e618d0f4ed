"""Which part of a whole parameter a tensor-parallel rank holds, so that all ranks together hold what one rank would.

A parameter is drawn as one rank would hold it, and a rank takes its part of it: by the layer's own `weight_loader`
where that takes what a single rank holds, and by cutting along an axis elsewhere. Layers are known by the names of
their classes, so that nothing of vLLM's has to be imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

Take = Callable[[torch.Tensor], None]
"""Puts a rank's part of a whole parameter into the rank's parameter."""


def whole_of(name: str, module: Any, parameter: Any, rank: int, ranks: int) -> tuple[tuple[int, ...], Take] | None:
    """The shape of a parameter of `module` on a single rank, and how a rank takes its part of it.

    name: the parameter's name in its module
    None where the parameter is divided in a way that is not known here.
    """
    kinds = {kind.__name__ for kind in type(module).__mro__}
    shape, loader = tuple(parameter.shape), getattr(parameter, "weight_loader", None)
    is_linear = "LinearBase" in kinds
    if ranks == 1 or loader is None or _is_replicated(kinds, parameter):
        return shape, parameter.copy_
    if "RoutedExperts" in kinds and module.local_num_experts == module.global_num_experts:
        return _of_experts(name, parameter, rank, ranks)
    if "VocabParallelEmbedding" in kinds:
        # A single rank has values in the rows that pad the vocabulary, which nothing reads.
        whole = (module.num_embeddings_padded, *shape[1:])
        return whole, lambda values: loader(parameter, values[: module.org_vocab_size])
    if is_linear and (pieces := _nonlocals(loader).get("shard_spec")) is not None:
        # Mamba-2: what the loader repeats on each rank (`extra`) a single rank has once.
        return (sum(full - extra for full, extra, _ in pieces), *shape[1:]), lambda values: loader(parameter, values)
    of_parts = loader.args[0] if isinstance(loader, partial) else loader  # fallbacks/delta_rule.py wraps it
    if is_linear and (sizes := _nonlocals(of_parts).get("dims")) is not None:
        # The convolution of a delta rule, over queries, keys and values.
        return (sum(sizes), *shape[1:]), lambda values: _load(of_parts, parameter, values, dict(enumerate(sizes)))
    if "QKVParallelLinear" in kinds:
        sizes = _rows_of_qkv(module)
        return (sum(sizes), *shape[1:]), lambda values: _load(loader, parameter, values, dict(zip("qkv", sizes)))
    if "MergedColumnParallelLinear" in kinds:
        outputs = dict(enumerate(module.output_sizes))
        return (sum(outputs.values()), *shape[1:]), lambda values: _load(loader, parameter, values, outputs)
    if "ColumnParallelLinear" in kinds:
        return (module.output_size, *shape[1:]), lambda values: loader(parameter, values)
    if "RowParallelLinear" in kinds:
        return (*shape[:-1], module.input_size), lambda values: loader(parameter, values)
    # Decay rates, time steps and gated norms of recurrent layers: each rank has the values of its own heads.
    return None if is_linear else _cut(parameter, 0, rank, ranks)


def _is_replicated(kinds: set[str], parameter: torch.Tensor) -> bool:
    """Whether every rank holds the whole: a projection that is not divided, a bias that is added once."""
    return "ReplicatedLinear" in kinds or ("RowParallelLinear" in kinds and parameter.dim() == 1)


def _of_experts(name: str, parameter: Any, rank: int, ranks: int) -> tuple[tuple[int, ...], Take] | None:
    """Experts are divided within each: rows of gate and up projections, columns of the down projection."""
    if name == "w2_weight":
        return _cut(parameter, 2, rank, ranks)
    if name != "w13_weight":
        return None
    experts, rows, hidden = parameter.shape
    half = rows // 2

    def take(values: torch.Tensor) -> None:
        for own, whole in zip(parameter.split(half, 1), values.split(half * ranks, 1)):
            own.copy_(whole[:, rank * half : (rank + 1) * half])

    return (experts, rows * ranks, hidden), take


def _cut(parameter: torch.Tensor, axis: int, rank: int, ranks: int) -> tuple[tuple[int, ...], Take]:
    size = parameter.shape[axis]
    whole = list(parameter.shape)
    whole[axis] *= ranks
    return tuple(whole), lambda values: parameter.copy_(values.narrow(axis, rank * size, size))  # type: ignore[return-value]


def _load(loader: Any, parameter: Any, values: torch.Tensor, rows: dict[Any, int]) -> None:
    """Give a merged parameter each of its pieces, by the name that its loader knows it by."""
    for which, piece in zip(rows, values.split(list(rows.values()))):
        loader(parameter, piece, which)


def _rows_of_qkv(module: Any) -> list[int]:
    """Rows of queries, keys and values on a single rank. More ranks than heads of keys repeat these."""
    values = getattr(module, "v_head_size", module.head_size)
    return [
        module.total_num_heads * module.head_size,
        module.total_num_kv_heads * module.head_size,
        module.total_num_kv_heads * values,
    ]


def _nonlocals(function: Any) -> dict[str, Any]:
    return dict(inspect.getclosurevars(function).nonlocals) if inspect.isfunction(function) else {}
