"""DeltaNet and Gated DeltaNet: a linear memory that corrects itself, in recurrent, chunked and single-token form.

The memory S maps keys to values. Each token decays it, reads what it holds under the token's key, and writes the
difference to the token's value with strength β (Yang et al., "Gated Delta Networks", arXiv 2412.06464, Eq. 10):

    S = α S;  r = β (v − kᵀS);  S = S + k rᵀ;  o = scale · qᵀS

The decay comes before the read. DeltaNet (arXiv 2406.06484, Eq. 4) is the case α = 1: pass `log_decay=None`.

Shapes: B batch, T tokens, H query/key heads, HV value heads (a multiple of H: value head h uses key head h // (HV/H)),
K key size, V value size. The state is [B, HV, K, V].

Keys: the chunked form inverts a matrix that stays small only while β‖k‖² ≤ 2, the same bound that keeps the recurrence
itself from growing (I − βkkᵀ has the eigenvalue 1 − β‖k‖², at least −1). By default queries and keys are divided by
their Euclidean length, as every released model does; with `normalise=False` the bound is checked.
"""

import torch
from torch import Tensor

from hybrid_ops.layers.chunks import (
    LOWEST_LOG_DECAY,
    from_chunks,
    in_segments,
    into_chunks,
    segment_decays,
    unit_lower_inverse,
)
from hybrid_ops.layers.norms import l2_normalise
from hybrid_ops.layers.packing import over_sequences
from hybrid_ops.layers.precision import compute_dtype, without_autocast
from hybrid_ops.layers.validation import (
    check_multiple,
    check_positive_integer,
    check_range,
    check_same_dtype,
    check_shapes,
)

# Unit keys that were rounded to bfloat16 (8 bits) have a squared length of up to 1 + 2·2⁻⁸.
ROUNDING_SLACK = 0.01


@without_autocast
def recurrent_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    normalise: bool = True,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The (gated) delta rule token by token, as arXiv 2412.06464, Eq. 10 reads.

    Args:
        query: [B, T, H, K], any floating dtype.
        key: [B, T, H, K].
        value: [B, T, HV, V]; HV must be a multiple of H.
        beta: [B, T, HV], writing strength in [0, 2]; above 1 the memory overshoots (negative eigenvalues).
        log_decay: [B, T, HV], the natural logarithm of α, at most 0; None means no decay (DeltaNet).
        scale: multiplies the output; None means 1/√K.
        normalise: divide queries and keys by their length; if False, β‖k‖² must be at most 2.
        initial_state: [B, HV, K, V]; None means zeros.
        cu_seqlens: [N + 1] cumulative lengths of N packed sequences; then B is 1 and states are [N, HV, K, V].

    Returns:
        output: [B, T, HV, V] in the dtype of value.
        final_state: [B, HV, K, V] in the compute dtype.

    Precision: query, key and value share one dtype; beta, log_decay and the state may each have another (float32
    beside bfloat16 values). Everything, the normalised queries and keys too, is in promote(all, float32); the output is
    rounded once, the state not at all.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    _check(query, key, value, beta, log_decay, normalise, initial_state, cu_seqlens)
    dtype = compute_dtype(query, key, value, beta, log_decay, initial_state)

    def layer(sequences: tuple[Tensor, ...], state: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k, v, b, g = _prepare(sequences, scale, normalise, dtype)
        memory = _first_state(sequences, state, dtype)
        outputs = []
        for t in range(v.shape[1]):
            output, memory = _step(q[:, t], k[:, t], v[:, t], b[:, t], g[:, t], memory)
            outputs.append(output)
        stacked = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(v)
        return stacked.to(value.dtype), memory

    sequences = (query, key, value, beta, torch.zeros_like(beta) if log_decay is None else log_decay)
    return over_sequences(layer, sequences, cu_seqlens, initial_state)


@without_autocast
def step_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    beta: Tensor,
    state: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    normalise: bool = True,
) -> tuple[Tensor, Tensor]:
    """One token of the (gated) delta rule (arXiv 2412.06464, Eq. 10), for decoding.

    Args:
        query: [B, H, K], any floating dtype.
        key: [B, H, K].
        value: [B, HV, V].
        beta: [B, HV], in [0, 2].
        state: [B, HV, K, V]; it is read, not written.
        log_decay: [B, HV], at most 0, or None.
        scale, normalise: as in `recurrent_delta_rule`.

    Returns:
        output: [B, HV, V] in the dtype of value.
        state: [B, HV, K, V] in the compute dtype.

    Precision: query, key and value share one dtype; beta, log_decay and the state may each have another (float32
    beside bfloat16 values). Everything, the normalised queries and keys too, is in promote(all, float32); the output is
    rounded once, the state not at all.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    check_shapes(
        query=(query, "B H K"),
        key=(key, "B H K"),
        value=(value, "B HV V"),
        beta=(beta, "B HV"),
        log_decay=(log_decay, "B HV"),
        state=(state, "B HV K V"),
    )
    _check_values(query, key, value, beta, log_decay, normalise)
    dtype = compute_dtype(query, key, value, beta, log_decay, state)
    gate = torch.zeros_like(beta) if log_decay is None else log_decay
    q, k, v, b, g = _prepare((query, key, value, beta, gate), scale, normalise, dtype)
    output, state = _step(q, k, v, b, g, state.to(dtype))
    return output.to(value.dtype), state


@without_autocast
def chunked_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    normalise: bool = True,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    chunk_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """The (gated) delta rule chunk by chunk: matmuls inside a chunk, one step of recurrence a chunk.

    Inside a chunk the corrected values solve a unit lower triangular system (arXiv 2406.06484, Eq. 10; with decay
    arXiv 2412.06464, §3.3, whose printed output uses the causal mask M where the decay matrix Γ is meant):

        Ũ = [I + strictLower(diag(β)(Γ ∘ KKᵀ))]⁻¹ diag(β) (V − γ∘K S),   O = scale · (γ∘Q S + (Γ ∘ QKᵀ) Ũ)

    where γ_i is the decay from the chunk's start to token i and Γ_ij from token j to token i.

    Args:
        query, key, value, beta, log_decay, scale, normalise, initial_state, cu_seqlens: as in `recurrent_delta_rule`.
        chunk_size: tokens in a chunk. It changes cost and rounding, not the result.

    Returns:
        output: [B, T, HV, V] in the dtype of value.
        final_state: [B, HV, K, V] in the compute dtype.

    Precision: query, key and value share one dtype; beta, log_decay and the state may each have another (float32
    beside bfloat16 values). Everything, the normalised queries and keys too, is in promote(all, float32); the output is
    rounded once, the state not at all.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    _check(query, key, value, beta, log_decay, normalise, initial_state, cu_seqlens)
    check_positive_integer("chunk_size", chunk_size)
    dtype = compute_dtype(query, key, value, beta, log_decay, initial_state)

    def layer(sequences: tuple[Tensor, ...], state: Tensor | None) -> tuple[Tensor, Tensor]:
        memory = _first_state(sequences, state, dtype)
        batch, heads, *sizes = memory.shape
        elements = batch * heads * max(*sizes, chunk_size)
        return in_segments(segment, sequences, memory, elements=elements, chunk_size=chunk_size)

    def segment(sequences: tuple[Tensor, ...], memory: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, b, g = _prepare(sequences, scale, normalise, dtype)
        output, memory = _chunked(q, k, v, b, g, memory, chunk_size)
        return output.to(value.dtype), memory

    sequences = (query, key, value, beta, torch.zeros_like(beta) if log_decay is None else log_decay)
    return over_sequences(layer, sequences, cu_seqlens, initial_state)


def _step(q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One token: q, k [B, HV, K], v [B, HV, V], b, g [B, HV], memory [B, HV, K, V]."""
    memory = memory * g.exp()[..., None, None]
    held = torch.einsum("bhk,bhkv->bhv", k, memory)
    correction = b[..., None] * (v - held)
    memory = memory + k[..., :, None] * correction[..., None, :]
    return torch.einsum("bhk,bhkv->bhv", q, memory), memory


def _chunked(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor, memory: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    batch, tokens, heads = b.shape
    q, k, v, b, g = (into_chunks(x, chunk_size) for x in (q, k, v, b, g))  # [B·HV, NC, C, ...]
    kb, vb = b[..., None] * k, b[..., None] * v
    memory = memory.flatten(0, 1)  # [B·HV, K, V]

    # 1. Decay from token j to i (Γ), from the chunk's start to i (γ), from i to the chunk's end.
    between = segment_decays(g)  # [B·HV, NC, C, C], 0 above the diagonal
    from_start = g.cumsum(dim=-1).exp()  # [B·HV, NC, C]
    to_end = between[..., -1, :]  # [B·HV, NC, C]

    # 2. diag(β)KKᵀ and QKᵀ in one matmul; then the triangular system, for all chunks at once.
    readers = torch.cat([kb, q], dim=-2)  # [B·HV, NC, 2C, K]
    products = (readers @ k.mT).unflatten(-2, (2, chunk_size)) * between[:, :, None]
    overlap, scores = products.unbind(dim=2)  # diag(β)(Γ ∘ KKᵀ) and Γ ∘ QKᵀ, each [B·HV, NC, C, C]
    solve = unit_lower_inverse(overlap)

    # 3. The recurrence over chunks.
    readers = readers * torch.cat([from_start, from_start], dim=-1)[..., None]
    writers = (k * to_end[..., None]).mT  # [B·HV, NC, K, C]
    chunk_decay = from_start[..., -1, None, None]  # [B·HV, NC, 1, 1]
    outputs = []
    chunks = (x.unbind(dim=1) for x in (readers, solve, vb, scores, writers, chunk_decay))
    for reader, inverse, values, score, writer, decay in zip(*chunks, strict=True):
        held, read = (reader @ memory).split(chunk_size, dim=-2)  # each [B·HV, C, V]; β is in `held`
        corrected = inverse @ (values - held)  # Ũ
        outputs.append(torch.baddbmm(read, score, corrected))
        memory = torch.baddbmm(memory * decay, writer, corrected)
    output = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(v)
    return from_chunks(output, batch, tokens), memory.unflatten(0, (batch, heads))


def _prepare(
    sequences: tuple[Tensor, ...], scale: float | None, normalise: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value, β and log-decay in the compute dtype; unit length, scaled, and one key a value head."""
    q, k, v, b, g = (x.to(dtype) for x in sequences)
    g = g.clamp(min=LOWEST_LOG_DECAY)
    if normalise:
        q, k = l2_normalise(q), l2_normalise(k)
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    if (group := v.shape[-2] // q.shape[-2]) > 1:
        q, k = q.repeat_interleave(group, dim=-2), k.repeat_interleave(group, dim=-2)
    return q, k, v, b, g


def _first_state(sequences: tuple[Tensor, ...], state: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The given state or zeros, [B, HV, K, V]."""
    if state is not None:
        return state.to(dtype)
    key, value = sequences[1:3]
    return value.new_zeros(value.shape[0], value.shape[2], key.shape[3], value.shape[3], dtype=dtype)


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    normalise: bool,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    check_shapes(
        query=(query, "B T H K"),
        key=(key, "B T H K"),
        value=(value, "B T HV V"),
        beta=(beta, "B T HV"),
        log_decay=(log_decay, "B T HV"),
        initial_state=(initial_state, "B HV K V" if cu_seqlens is None else "N HV K V"),
    )
    _check_values(query, key, value, beta, log_decay, normalise)


def _check_values(
    query: Tensor, key: Tensor, value: Tensor, beta: Tensor, log_decay: Tensor | None, normalise: bool
) -> None:
    check_same_dtype(query=query, key=key, value=value)
    check_multiple("value", value.shape[-2], "query", query.shape[-2])
    check_range("beta", beta, 0.0, 2.0, "1 − β is the eigenvalue of the update along a unit key")
    check_range("log_decay", log_decay, -torch.inf, 0.0, "it is the logarithm of a decay of at most 1")
    if not normalise:
        lengths = key.detach().to(compute_dtype(key)).square().sum(-1)
        lengths = lengths.repeat_interleave(value.shape[-2] // key.shape[-2], dim=-1)
        check_range("key", beta.detach() * lengths, 0.0, 2.0 + ROUNDING_SLACK, "β‖k‖² above 2 makes the memory grow")
