"""Softmax attention: full (MHA, GQA, MQA), banded for sliding windows, and by blocks for any mask.

    scores = scale · q kᵀ → score_mod → masked → softmax over keys → · v      (arXiv 1706.03762, Eq. 1)

Shapes: B batch, T queries, S keys, H query heads, HK key/value heads (H a multiple of HK: grouped-query attention,
arXiv 2305.13245; HK = 1: multi-query, arXiv 1911.02150), K key size, V value size, G = H / HK queries a group.
Query head h reads key head h // G.

Positions: key j stands at position j, query i at query_offset + i. In prefill T = S and the offset is 0; in decoding
the queries are the last T of S positions, which is the default offset S − T.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from hybrid_ops.layers.masks import MaskMod, ScoreMod, causal, seen_by_block
from hybrid_ops.layers.masks import sliding_window as sliding_window_mask
from hybrid_ops.layers.precision import compute_dtype, without_autocast
from hybrid_ops.layers.validation import (
    check_multiple,
    check_positive_integer,
    check_same_dtype,
    check_shapes,
    sequence_boundaries,
)


@without_autocast
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask_mod: MaskMod | None = causal,
    score_mod: ScoreMod | None = None,
    scale: float | None = None,
    query_offset: int | Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention, O(T·S) time and memory (arXiv 1706.03762, Eq. 1).

    Args:
        query: [B, T, H, K], any floating dtype.
        key: [B, S, HK, K]; H must be a multiple of HK.
        value: [B, S, HK, V].
        mask_mod: which keys are seen (see `masks`); None means all.
        score_mod: changes the scaled scores before the mask; None for none.
        scale: multiplies the scores; None means 1/√K.
        query_offset: the position of the first query: an integer, or [B] integers for a batch of caches of different
            length (then mask_mod must hide what lies beyond); None means S − T.
        cu_seqlens: [N + 1] cumulative lengths of N packed sequences, then B is 1, T = S, and no query sees another
            sequence. Positions count from the start of each sequence, and query_offset must be None.

    Returns:
        [B, T, H, V] in the dtype of query. A query that sees no key gives zeros.

    Precision: query, key and value share one dtype. Scores, what score_mod makes of them, the softmax and its product
    with the values are in promote(query, float32); nothing is rounded before the output is, once.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or value.
    """
    _check(query, key, value, query_offset, cu_seqlens)

    def one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        position = _offset(q, k, query_offset)
        return _attend(q, k, v, _mask(mask_mod, q, k, position, 0), score_mod, scale, position, 0)

    if cu_seqlens is None:
        return one(query, key, value)
    boundaries = sequence_boundaries(cu_seqlens, query.shape[0], query.shape[1])
    sequences = [[tensor[:, start:end] for tensor in (query, key, value)] for start, end in pairwise(boundaries)]
    return torch.cat([one(*sequence) for sequence in sequences], dim=1)


@without_autocast
def sliding_window_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: int,
    score_mod: ScoreMod | None = None,
    scale: float | None = None,
    query_offset: int | Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    block_size: int = 64,
) -> Tensor:
    """Causal attention in which a query sees `window` keys, itself among them: O(T·(window + block_size)) time.

    Equal to `attention` with `masks.sliding_window(window)`, but the T × S matrix of scores is never made: the queries
    go block by block, and each block meets only the band of keys that its queries can see (Mistral 7B,
    arXiv 2310.06825, §2; blocks as in Longformer, arXiv 2004.05150, §3.1). One mask serves all whose bands lie alike.

    Args:
        query: [B, T, H, K], any floating dtype.
        key: [B, S, HK, K]; H must be a multiple of HK.
        value: [B, S, HK, V].
        window: keys that each query sees, including its own position; at least 1.
        score_mod, scale, query_offset, cu_seqlens: as in `attention`.
        block_size: queries in a block. It changes cost, not the result.

    Returns:
        [B, T, H, V] in the dtype of query. A query that sees no key gives zeros.

    Precision: query, key and value share one dtype. Scores, what score_mod makes of them, the softmax and its product
    with the values are in promote(query, float32); nothing is rounded before the output is, once.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or value.
    """
    _check(query, key, value, query_offset, cu_seqlens)
    mask_mod = sliding_window_mask(window)
    check_positive_integer("block_size", block_size)
    boundaries = [0, query.shape[1]]
    if cu_seqlens is not None:
        boundaries = sequence_boundaries(cu_seqlens, query.shape[0], query.shape[1])
    outputs, mask = [], None
    for start, end in pairwise(boundaries):
        q = query[:, start:end]
        k, v = (key, value) if cu_seqlens is None else (key[:, start:end], value[:, start:end])
        offset = _offset(q, k, query_offset)
        place: tuple[int, int, int] | None = None
        earliest, latest = (offset, offset) if isinstance(offset, int) else (int(offset.min()), int(offset.max()))
        for first in range(0, end - start, block_size):
            block = q[:, first : first + block_size]
            # The band: from the oldest key of the block's first query to the newest of its last.
            low = max(earliest + first - window + 1, 0)
            high = min(latest + first + block.shape[1], k.shape[1])
            band = slice(min(low, high), high)
            position = offset + first
            before, place = place, (block.shape[1], high - band.start, earliest + first - band.start)
            if place != before:
                mask = _mask(mask_mod, block, k[:, band], position, band.start)
            outputs.append(_attend(block, k[:, band], v[:, band], mask, score_mod, scale, position, band.start))
    return torch.cat(outputs, dim=1) if outputs else query.new_zeros(*query.shape[:3], value.shape[3])


@without_autocast
def block_sparse_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask_mod: MaskMod | None = causal,
    score_mod: ScoreMod | None = None,
    scale: float | None = None,
    block_size: int = 128,
) -> Tensor:
    """Attention that computes no scores for what a mask hides from a whole block of queries.

    Equal to `attention` with a mask that is the same for every batch row and head, but the queries go block by block,
    and each block meets only the keys from the first to the last that any of its queries sees. So a causal mask costs
    half, a mask of documents what its documents cost, and memory without gradients is O(S · block_size) instead of
    O(T · S). ("Flex Attention", arXiv 2412.05496, §4, skips single blocks of keys too.)

    Args:
        query: [B, T, H, K], any floating dtype.
        key: [B, S, HK, K]; H must be a multiple of HK. The queries are the last T of S positions.
        value: [B, S, HK, V].
        mask_mod, score_mod, scale: as in `attention`.
        block_size: queries in a block. It changes cost, not the result.

    Returns:
        [B, T, H, V] in the dtype of query. A query that sees no key gives zeros.

    Precision: query, key and value share one dtype. Scores, what score_mod makes of them, the softmax and its product
    with the values are in promote(query, float32); nothing is rounded before the output is, once.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or value.
    """
    _check(query, key, value, None, None)
    check_positive_integer("block_size", block_size)
    queries, keys = query.shape[1], key.shape[1]
    bands = [slice(0, keys)] * -(-queries // block_size)
    if mask_mod is not None:
        bands = [_band(seen) for seen in seen_by_block(mask_mod, queries, keys, query.device, block_size)]
    outputs = []
    for number, band in enumerate(bands):
        first = number * block_size
        block = query[:, first : first + block_size]
        position = keys - queries + first
        mask = _mask(mask_mod, block, key[:, band], position, band.start)
        outputs.append(_attend(block, key[:, band], value[:, band], mask, score_mod, scale, position, band.start))
    return torch.cat(outputs, dim=1) if outputs else query.new_zeros(*query.shape[:3], value.shape[3])


def _band(seen: Tensor) -> slice:
    """From the first to the last key that any query of a block sees, [queries, S]."""
    places = seen.any(dim=0).nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


class _Mask(NamedTuple):
    """What a mask does to the scores of some queries with some keys."""

    hidden: Tensor
    """[B, H, T, S], or what broadcasts to it: added to the scores."""
    blind: Tensor
    """[B, H, T, 1], or what broadcasts to it: True for a query that sees no key."""


def _mask(
    mask_mod: MaskMod | None, query: Tensor, key: Tensor, query_start: int | Tensor, key_start: int
) -> _Mask | None:
    """A mask for queries that start at query_start (one position, or [B]) with keys that start at key_start."""
    if mask_mod is None:
        return None
    seen = mask_mod(*_positions(query, key, query_start, key_start))
    dtype = compute_dtype(query, key)
    # Low enough to vanish in the softmax, and finite, so that a row that sees no key is no NaN before it is zeroed.
    hidden = torch.zeros(seen.shape, dtype=dtype, device=query.device).masked_fill_(~seen, torch.finfo(dtype).min / 2)
    return _Mask(hidden, ~seen.any(dim=-1, keepdim=True))


def _positions(
    query: Tensor, key: Tensor, query_start: int | Tensor, key_start: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The batch rows, heads, query positions and key positions that mask and score mods take, broadcasting."""
    device = query.device
    start = query_start if isinstance(query_start, int) else query_start[:, None, None, None]
    return (
        torch.arange(query.shape[0], device=device)[:, None, None, None],
        torch.arange(query.shape[2], device=device)[:, None, None],
        start + torch.arange(query.shape[1], device=device)[:, None],
        torch.arange(key_start, key_start + key.shape[1], device=device),
    )


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: _Mask | None,
    score_mod: ScoreMod | None,
    scale: float | None,
    query_start: int | Tensor,
    key_start: int,
) -> Tensor:
    """Attention of queries that start at query_start (one position, or [B]) with keys that start at key_start."""
    dtype = compute_dtype(query, key, value)
    queries, heads, size = query.shape[1:]
    key_heads = key.shape[2]
    group = heads // key_heads
    scale = size**-0.5 if scale is None else scale

    q = query.to(dtype).unflatten(2, (key_heads, group)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # [B, HK, G·T, K]
    k = key.to(dtype).permute(0, 2, 3, 1)  # [B, HK, K, S]
    v = value.to(dtype).transpose(1, 2)  # [B, HK, S, V]
    scores = ((q * scale) @ k).unflatten(2, (group, queries)).flatten(1, 2)  # [B, H, T, S]

    if score_mod is not None:
        scores = score_mod(scores, *_positions(query, key, query_start, key_start))
    if mask is not None:
        scores = scores + mask.hidden
    weights = scores.softmax(dim=-1).unflatten(1, (key_heads, group)).flatten(2, 3)  # [B, HK, G·T, S]
    output = (weights @ v).unflatten(2, (group, queries)).flatten(1, 2)  # [B, H, T, V]
    if mask is not None:
        output = output.masked_fill(mask.blind, 0.0)
    return output.transpose(1, 2).to(query.dtype)


def _offset(query: Tensor, key: Tensor, query_offset: int | Tensor | None) -> int | Tensor:
    """The position of the first query: one for all, or [B]."""
    return key.shape[1] - query.shape[1] if query_offset is None else query_offset


def _check(
    query: Tensor, key: Tensor, value: Tensor, query_offset: int | Tensor | None, cu_seqlens: Tensor | None
) -> None:
    sizes = check_shapes(query=(query, "B T H K"), key=(key, "B S HK K"), value=(value, "B S HK V"))
    check_same_dtype(query=query, key=key, value=value)
    check_multiple("query", sizes["H"], "key", sizes["HK"])
    if isinstance(query_offset, Tensor) and (
        query_offset.is_floating_point() or tuple(query_offset.shape) != (sizes["B"],)
    ):
        raise ValueError(
            f"query_offset: expected [B] integers with B = {sizes['B']}, "
            f"got {query_offset.dtype} {tuple(query_offset.shape)}"
        )
    if cu_seqlens is not None and query_offset is not None:
        raise ValueError("query_offset: must be None with cu_seqlens, whose positions start in each sequence")
    if cu_seqlens is not None and sizes["T"] != sizes["S"]:
        raise ValueError(f"cu_seqlens: needs as many keys as queries, got {sizes['S']} and {sizes['T']}")
