"""Mamba-2's state space duality (SSD): a selective SSM with one scalar decay a head, recurrent, chunked and by step.

Dao & Gu, "Transformers are SSMs", arXiv 2405.21060, Eq. 1 and Listing 1. Per head, with Δ after its softplus:

    h = exp(Δ A) h + Δ · x Bᵀ;   y = h C + D x

Shapes: B batch, T tokens, H heads, P head size, G groups (H a multiple of G: head h reads B and C of group h // (H/G)),
N state size. The state is [B, H, P, N]. The papers' letters A, B, C, D are kept as argument names.
"""

import torch
from torch import Tensor

from hybrid_ops.layers.chunks import LOWEST_LOG_DECAY, from_chunks, in_segments, into_chunks, segment_decays
from hybrid_ops.layers.packing import over_sequences
from hybrid_ops.layers.precision import compute_dtype, finite_rate, without_autocast
from hybrid_ops.layers.validation import (
    check_multiple,
    check_positive_integer,
    check_range,
    check_same_dtype,
    check_shapes,
)


@without_autocast
def recurrent_ssd(
    x: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    dt: Tensor,
    A: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """SSD token by token, as arXiv 2405.21060, Eq. 1 reads.

    Args:
        x: [B, T, H, P], any floating dtype.
        B: [B, T, G, N], how a token is written; H must be a multiple of G.
        C: [B, T, G, N], how the state is read.
        dt: [B, T, H], the step Δ after softplus and limits, at least 0.
        A: [H], the rate of decay, at most 0: a token's log-decay is Δ·A.
        D: [H], the skip connection, or None.
        initial_state: [B, H, P, N]; None means zeros.
        cu_seqlens: [S + 1] cumulative lengths of S packed sequences; then B is 1 and states are [S, H, P, N].

    Returns:
        y: [B, T, H, P] in the dtype of x.
        final_state: [B, H, P, N] in the compute dtype.

    Precision: x, B and C share one dtype; dt, A, D and the state may each have another (float32 beside bfloat16
    values). Everything, Δ·A and Δ·x too, is in promote(all, float32); y is rounded once, behind the skip connection,
    the state not at all. A rate of −∞ forgets everything at any step above 0, and nothing at a step of 0.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    _check(x, B, C, dt, A, D, initial_state, cu_seqlens)
    dtype = compute_dtype(x, B, C, dt, A, D, initial_state)
    rate = finite_rate(A, dtype)

    def layer(sequences: tuple[Tensor, ...], state: Tensor | None) -> tuple[Tensor, Tensor]:
        x_, b, c, step = (tensor.to(dtype) for tensor in sequences)
        h = _first_state(sequences, state, dtype)
        outputs = []
        for t in range(x_.shape[1]):
            y, h = _step(x_[:, t], b[:, t], c[:, t], step[:, t], rate, h)
            outputs.append(y)
        y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(x_)
        return _skip(y, x_, D).to(x.dtype), h

    return over_sequences(layer, (x, B, C, dt), cu_seqlens, initial_state)


@without_autocast
def step_ssd(
    x: Tensor, B: Tensor, C: Tensor, *, dt: Tensor, A: Tensor, state: Tensor, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token of SSD (arXiv 2405.21060, Eq. 1), for decoding.

    Args:
        x: [B, H, P], any floating dtype.
        B: [B, G, N].
        C: [B, G, N].
        dt: [B, H], at least 0.
        A: [H], at most 0.
        state: [B, H, P, N]; it is read, not written.
        D: [H], or None.

    Returns:
        y: [B, H, P] in the dtype of x.
        state: [B, H, P, N] in the compute dtype.

    Precision: x, B and C share one dtype; dt, A, D and the state may each have another (float32 beside bfloat16
    values). Everything, Δ·A and Δ·x too, is in promote(all, float32); y is rounded once, behind the skip connection,
    the state not at all. A rate of −∞ forgets everything at any step above 0, and nothing at a step of 0.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    check_shapes(
        x=(x, "B H P"),
        B=(B, "B G N"),
        C=(C, "B G N"),
        dt=(dt, "B H"),
        A=(A, "H"),
        D=(D, "H"),
        state=(state, "B H P N"),
    )
    _check_values(x, B, C, dt, A)
    dtype = compute_dtype(x, B, C, dt, A, D, state)
    x_, b, c, step = (tensor.to(dtype) for tensor in (x, B, C, dt))
    y, state = _step(x_, b, c, step, finite_rate(A, dtype), state.to(dtype))
    return _skip(y, x_, D).to(x.dtype), state


@without_autocast
def chunked_ssd(
    x: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    dt: Tensor,
    A: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    chunk_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """SSD chunk by chunk, the four steps of arXiv 2405.21060, §6 and Listing 1.

    Inside a chunk Y = (L ∘ CBᵀ) (ΔX), with L the decay matrix; between chunks the state carries over.

    Args:
        x, B, C, dt, A, D, initial_state, cu_seqlens: as in `recurrent_ssd`.
        chunk_size: tokens in a chunk. It changes cost and rounding, not the result.

    Returns:
        y: [B, T, H, P] in the dtype of x.
        final_state: [B, H, P, N] in the compute dtype.

    Precision: x, B and C share one dtype; dt, A, D and the state may each have another (float32 beside bfloat16
    values). Everything, Δ·A and Δ·x too, is in promote(all, float32); y is rounded once, behind the skip connection,
    the state not at all. A rate of −∞ forgets everything at any step above 0, and nothing at a step of 0.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    _check(x, B, C, dt, A, D, initial_state, cu_seqlens)
    check_positive_integer("chunk_size", chunk_size)
    dtype = compute_dtype(x, B, C, dt, A, D, initial_state)
    rate = finite_rate(A, dtype)

    def layer(sequences: tuple[Tensor, ...], state: Tensor | None) -> tuple[Tensor, Tensor]:
        h = _first_state(sequences, state, dtype)
        batch, heads, *sizes = h.shape
        groups = sequences[1].shape[2]
        elements = batch * heads * max(*sizes, chunk_size)
        h = h.unflatten(1, (groups, -1)).flatten(0, 1).permute(0, 3, 1, 2)  # [B·G, N, H/G, P]
        y, h = in_segments(segment, sequences, h, elements=elements, chunk_size=chunk_size)
        return y, h.permute(0, 2, 3, 1).unflatten(0, (batch, groups)).flatten(1, 2)

    def segment(sequences: tuple[Tensor, ...], h: Tensor) -> tuple[Tensor, Tensor]:
        x_, b, c, step = (tensor.to(dtype) for tensor in sequences)
        y, h = _chunked(x_, b, c, step, rate, h, chunk_size)
        return _skip(y, x_, D).to(x.dtype), h

    return over_sequences(layer, (x, B, C, dt), cu_seqlens, initial_state)


def _step(x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """One token: x [B, H, P], b, c [B, G, N], dt [B, H], a [H], h [B, H, P, N]."""
    group = x.shape[1] // b.shape[1]
    b, c = b.repeat_interleave(group, dim=1), c.repeat_interleave(group, dim=1)  # [B, H, N]
    h = h * (dt * a).exp()[..., None, None] + torch.einsum("bh,bhp,bhn->bhpn", dt, x, b)
    return torch.einsum("bhpn,bhn->bhp", h, c), h


def _chunked(
    x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, h: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """A stretch of tokens: x [B, T, H, P], b, c [B, T, G, N], dt [B, T, H], a [H], h [B·G, N, R, P], R = H / G.

    The heads of a group lie side by side, as they do in x, so that B and C meet all of them in one matmul.
    """
    batch, tokens, heads, _ = x.shape
    group = (b.shape[2], heads // b.shape[2])
    g = into_chunks((dt * a).clamp(min=LOWEST_LOG_DECAY), chunk_size)  # [B·H, NC, C]
    x = into_chunks((x * dt[..., None]).unflatten(2, group), chunk_size)  # [B·G, NC, C, R, P]
    b, c = into_chunks(b, chunk_size), into_chunks(c, chunk_size)  # [B·G, NC, C, N]

    def by_token(decay: Tensor) -> Tensor:
        """[B·H, NC, C] → [B·G, NC, C, R, 1]."""
        return decay.unflatten(0, (-1, group[1])).movedim(1, -1)[..., None]

    # 1. Within a chunk (the diagonal blocks). The product CBᵀ is the same for all heads of a group.
    between = segment_decays(g)  # L: [B·H, NC, C, C], 0 above the diagonal
    scores = (c @ b.mT)[:, None] * between.unflatten(0, (-1, group[1]))  # [B·G, R, NC, C, C]
    y = (scores @ x.movedim(3, 1)).movedim(1, 3)  # [B·G, NC, C, R, P]

    # 2. What each chunk adds to the state: Σ_i decay(i → end) b_i x_iᵀ.
    to_end = by_token(between[..., -1, :])
    added = (b.mT @ (x * to_end).flatten(3)).unflatten(3, x.shape[3:])  # [B·G, NC, N, R, P]

    # 3. The recurrence over chunks: the state in front of each.
    from_start = by_token(g.cumsum(dim=-1).exp())
    chunk_decay = from_start[:, :, -1:]  # [B·G, NC, 1, R, 1]
    before = []
    for addition, decay in zip(added.unbind(dim=1), chunk_decay.unbind(dim=1), strict=True):
        before.append(h)
        h = torch.addcmul(addition, h, decay)

    # 4. What the state in front of the chunk adds to its outputs (the off-diagonal blocks).
    if before:
        states = torch.stack(before, dim=1).flatten(3)  # [B·G, NC, N, R·P]
        y = torch.addcmul(y, (c @ states).unflatten(3, x.shape[3:]), from_start)
    return from_chunks(y, batch, tokens).flatten(2, 3), h


def _skip(y: Tensor, x: Tensor, D: Tensor | None) -> Tensor:
    return y if D is None else y + x * D.to(x.dtype)[:, None]


def _first_state(sequences: tuple[Tensor, ...], state: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The given state or zeros, [B, H, P, N]."""
    if state is not None:
        return state.to(dtype)
    x, b = sequences[:2]
    return x.new_zeros(x.shape[0], x.shape[2], x.shape[3], b.shape[3], dtype=dtype)


def _check(
    x: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    A: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    check_shapes(
        x=(x, "B T H P"),
        B=(B, "B T G N"),
        C=(C, "B T G N"),
        dt=(dt, "B T H"),
        A=(A, "H"),
        D=(D, "H"),
        initial_state=(initial_state, "B H P N" if cu_seqlens is None else "S H P N"),
    )
    _check_values(x, B, C, dt, A)


def _check_values(x: Tensor, B: Tensor, C: Tensor, dt: Tensor, A: Tensor) -> None:
    check_same_dtype(x=x, B=B, C=C)
    check_multiple("x", x.shape[-2], "B", B.shape[-2])
    check_range("dt", dt, 0.0, torch.inf, "it is a step of time")
    check_range("A", A, -torch.inf, 0.0, "exp(Δ A) must not exceed 1")
