"""Mamba-1's selective scan (S6): a diagonal SSM whose step, input and output maps depend on the token.

Gu & Dao, "Mamba", arXiv 2312.00752, Eq. 2 and Algorithm 2. For each channel d and state n, with Δ after its softplus:

    h = exp(Δ A) h + Δ B u;   y = Σ_n C h + D u

The paper writes the zero-order hold for B (Eq. 4); its code, and all released models, use the Euler step Δ B, and so
does this file.

Shapes: B batch, T tokens, D channels, N state size. The state is [B, D, N]. The paper's letters A, B, C, D and u are
kept as argument names.
"""

import torch
from torch import Tensor

from hybrid_ops.layers.packing import over_sequences
from hybrid_ops.layers.precision import compute_dtype, finite_rate, without_autocast
from hybrid_ops.layers.validation import check_positive_integer, check_range, check_same_dtype, check_shapes


@without_autocast
def recurrent_selective_scan(
    u: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    dt: Tensor,
    A: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The selective scan token by token, as arXiv 2312.00752, Eq. 2 reads.

    Args:
        u: [B, T, D], any floating dtype.
        B: [B, T, N], how a token is written.
        C: [B, T, N], how the state is read.
        dt: [B, T, D], the step Δ after softplus, at least 0.
        A: [D, N], the rates of decay, at most 0.
        D: [D], the skip connection, or None.
        initial_state: [B, D, N]; None means zeros.
        cu_seqlens: [S + 1] cumulative lengths of S packed sequences; then B is 1 and states are [S, D, N].

    Returns:
        y: [B, T, D] in the dtype of u.
        final_state: [B, D, N] in the compute dtype.

    Precision: u, B and C share one dtype; dt, A, D and the state may each have another (float32 beside bfloat16
    values). Everything, Δ·A and Δ·u too, is in promote(all, float32); y is rounded once, behind the skip connection,
    the state not at all. A rate of −∞ forgets everything at any step above 0, and nothing at a step of 0.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    _check(u, B, C, dt, A, D, initial_state, cu_seqlens)
    dtype = compute_dtype(u, B, C, dt, A, D, initial_state)
    rate = finite_rate(A, dtype)

    def layer(sequences: tuple[Tensor, ...], state: Tensor | None) -> tuple[Tensor, Tensor]:
        u_, b, c, step = (tensor.to(dtype) for tensor in sequences)
        h = _first_state(u_, b, state)
        outputs = []
        for t in range(u_.shape[1]):
            y, h = _step(u_[:, t], b[:, t], c[:, t], step[:, t], rate, h)
            outputs.append(y)
        y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(u_)
        return _skip(y, u_, D).to(u.dtype), h

    return over_sequences(layer, (u, B, C, dt), cu_seqlens, initial_state)


@without_autocast
def step_selective_scan(
    u: Tensor, B: Tensor, C: Tensor, *, dt: Tensor, A: Tensor, state: Tensor, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token of the selective scan (arXiv 2312.00752, Eq. 2), for decoding.

    Args:
        u: [B, D], any floating dtype.
        B: [B, N].
        C: [B, N].
        dt: [B, D], at least 0.
        A: [D, N], at most 0.
        state: [B, D, N]; it is read, not written.
        D: [D], or None.

    Returns:
        y: [B, D] in the dtype of u.
        state: [B, D, N] in the compute dtype.

    Precision: u, B and C share one dtype; dt, A, D and the state may each have another (float32 beside bfloat16
    values). Everything, Δ·A and Δ·u too, is in promote(all, float32); y is rounded once, behind the skip connection,
    the state not at all. A rate of −∞ forgets everything at any step above 0, and nothing at a step of 0.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    check_shapes(
        u=(u, "B D"), B=(B, "B N"), C=(C, "B N"), dt=(dt, "B D"), A=(A, "D N"), D=(D, "D"), state=(state, "B D N")
    )
    _check_values(u, B, C, dt, A)
    dtype = compute_dtype(u, B, C, dt, A, D, state)
    u_, b, c, step = (tensor.to(dtype) for tensor in (u, B, C, dt))
    y, state = _step(u_, b, c, step, finite_rate(A, dtype), state.to(dtype))
    return _skip(y, u_, D).to(u.dtype), state


@without_autocast
def chunked_selective_scan(
    u: Tensor,
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
    """The selective scan as a parallel scan within chunks (arXiv 2312.00752, §3.3.2) and a loop over chunks.

    A recurrence h_t = a_t h_{t−1} + b_t composes: (a, b) then (a', b') is (a a', a' b + b'). Composing neighbours, then
    neighbouring pairs, gives every prefix of the chunk in log₂(chunk_size) levels, with products of decays only (at
    most 1) and no division, so that strong decay cannot overflow (Blelloch, "Prefix Sums and Their Applications",
    CMU-CS-90-190, §1.4).

    Args:
        u, B, C, dt, A, D, initial_state, cu_seqlens: as in `recurrent_selective_scan`.
        chunk_size: tokens in a chunk. It changes cost and rounding, not the result; working memory without gradients
            is proportional to it.

    Returns:
        y: [B, T, D] in the dtype of u.
        final_state: [B, D, N] in the compute dtype.

    Precision: u, B and C share one dtype; dt, A, D and the state may each have another (float32 beside bfloat16
    values). Everything, Δ·A and Δ·u too, is in promote(all, float32); y is rounded once, behind the skip connection,
    the state not at all. A rate of −∞ forgets everything at any step above 0, and nothing at a step of 0.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    _check(u, B, C, dt, A, D, initial_state, cu_seqlens)
    check_positive_integer("chunk_size", chunk_size)
    dtype = compute_dtype(u, B, C, dt, A, D, initial_state)
    rate = finite_rate(A, dtype)

    def layer(sequences: tuple[Tensor, ...], state: Tensor | None) -> tuple[Tensor, Tensor]:
        u_, b, c, step = (tensor.to(dtype) for tensor in sequences)
        h = _first_state(u_, b, state)
        outputs = []
        for start in range(0, u_.shape[1], chunk_size):
            chunk = slice(start, start + chunk_size)
            decays = (step[:, chunk, :, None] * rate).exp()  # [B, C, D, N]
            inputs = (step[:, chunk] * u_[:, chunk])[..., None] * b[:, chunk, None, :]
            # The first token carries the state on, so that the prefixes start from zero.
            first = torch.addcmul(inputs[:, :1], decays[:, :1], h[:, None])
            states = _prefixes(decays, torch.cat([first, inputs[:, 1:]], dim=1))
            outputs.append((states @ c[:, chunk, :, None]).squeeze(-1))  # [B, C, D]
            h = states[:, -1]
        y = torch.cat(outputs, dim=1) if outputs else torch.zeros_like(u_)
        return _skip(y, u_, D).to(u.dtype), h

    return over_sequences(layer, (u, B, C, dt), cu_seqlens, initial_state)


def _prefixes(decays: Tensor, inputs: Tensor) -> Tensor:
    """The state after each token of a chunk that starts from zero: decays, inputs [B, C, D, N] → [B, C, D, N].

    Neighbours are composed to half as many pairs, whose prefixes are the states after every second token; one more
    step each gives those between.
    """
    tokens = decays.shape[1]
    if tokens == 1:
        return inputs
    pairs = tokens // 2
    first_decay, second_decay = decays[:, : 2 * pairs].unflatten(1, (pairs, 2)).unbind(dim=2)
    first_input, second_input = inputs[:, : 2 * pairs].unflatten(1, (pairs, 2)).unbind(dim=2)
    after_second = _prefixes(first_decay * second_decay, torch.addcmul(second_input, second_decay, first_input))
    # The firsts of all pairs but the first one, and an odd last token, each a step after the pair before.
    later = torch.addcmul(inputs[:, 2::2], decays[:, 2::2], after_second[:, : (tokens - 1) // 2])
    after_first = torch.cat([inputs[:, :1], later], dim=1)
    states = torch.stack([after_first[:, :pairs], after_second], dim=2).flatten(1, 2)
    return states if tokens == 2 * pairs else torch.cat([states, after_first[:, pairs:]], dim=1)


def _step(u: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """One token: u, dt [B, D], b, c [B, N], a [D, N], h [B, D, N]."""
    h = h * (dt[..., None] * a).exp() + (dt * u)[..., None] * b[:, None, :]
    return (h @ c[..., None]).squeeze(-1), h


def _skip(y: Tensor, u: Tensor, D: Tensor | None) -> Tensor:
    return y if D is None else y + u * D.to(u.dtype)


def _first_state(u: Tensor, b: Tensor, state: Tensor | None) -> Tensor:
    if state is None:
        return u.new_zeros(u.shape[0], u.shape[2], b.shape[2])
    return state.to(u.dtype)


def _check(
    u: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    A: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    check_shapes(
        u=(u, "B T D"),
        B=(B, "B T N"),
        C=(C, "B T N"),
        dt=(dt, "B T D"),
        A=(A, "D N"),
        D=(D, "D"),
        initial_state=(initial_state, "B D N" if cu_seqlens is None else "S D N"),
    )
    _check_values(u, B, C, dt, A)


def _check_values(u: Tensor, B: Tensor, C: Tensor, dt: Tensor, A: Tensor) -> None:
    check_same_dtype(u=u, B=B, C=C)
    check_range("dt", dt, 0.0, torch.inf, "it is a step of time")
    check_range("A", A, -torch.inf, 0.0, "exp(Δ A) must not exceed 1")
