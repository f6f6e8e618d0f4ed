"""What the chunked forms share: cutting time into chunks, decay between tokens, and a triangular inverse.

Shapes: ... any leading dimensions (batch, heads), T tokens, NC chunks, C tokens in a chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# exp(−1e4) is 0 in every dtype, so clamping log-decays here changes no result, while it lets a log-decay of −inf
# (forget everything) pass through sums without making NaN out of −inf · 0.
LOWEST_LOG_DECAY = -1e4

# Rows that are forward-substituted before blocks are merged by matmuls. Below 16 the merges are too small to be fast;
# above, the substitution's row-by-row loop is the longer part.
LEAF_SIZE = 16

SEGMENT_ELEMENTS = 2**17
"""On a CPU, how many elements an intermediate tensor may have: half a MiB of float32, so that the dozen that are alive
together stay in cache and in memory that the allocator has already. Whole-sequence intermediates of 2048 tokens take
1.4 times as long, most of it page faults."""


def in_segments(
    layer: Callable[[tuple[Tensor, ...], Tensor], tuple[Tensor, Tensor]],
    sequences: tuple[Tensor, ...],
    state: Tensor,
    *,
    elements: int,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Run a chunked form over stretches of tokens that fit into the cache, carrying its state.

    Args:
        layer: called with the tensors of one stretch, each [B, t, ...], and the state; gives its output [B, t, ...] and
            the next state.
        sequences: each [B, T, ...].
        state: in front of the first token.
        elements: of the largest intermediate tensor, a token.
        chunk_size: stretches are multiples of it.

    Returns:
        The output [B, T, ...] and the final state.
    """
    tokens = sequences[0].shape[1]
    length = tokens
    if state.device.type == "cpu":
        length = chunk_size * max(SEGMENT_ELEMENTS // (elements * chunk_size), 1)
    if tokens <= length:
        return layer(sequences, state)
    outputs = []
    # Split, not sliced: the gradient of a slice is a whole sequence of zeros with the slice's own in it, one a stretch.
    for stretch in zip(*(tensor.split(length, dim=1) for tensor in sequences), strict=True):
        output, state = layer(stretch, state)
        outputs.append(output)
    return torch.cat(outputs, dim=1), state


def into_chunks(x: Tensor, chunk_size: int) -> Tensor:
    """[B, T, H, ...] → [B·H, NC, C, ...], padded with zeros behind the last token.

    Zeros are no-ops for every recurrence here: a zero log-decay keeps the state, a zero β or Δ writes nothing.
    The copy that this makes is contiguous, because matmuls of strided chunks would copy their operands each time.
    """
    padding = -x.shape[1] % chunk_size
    if padding:
        x = functional.pad(x, (0, 0) * (x.dim() - 2) + (0, padding))
    return x.unflatten(1, (-1, chunk_size)).movedim(3, 1).flatten(0, 1).contiguous()


def from_chunks(x: Tensor, batch: int, tokens: int) -> Tensor:
    """[B·H, NC, C, ...] → [B, T, H, ...], without the padding: the inverse of `into_chunks`."""
    return x.flatten(1, 2)[:, :tokens].unflatten(0, (batch, -1)).transpose(1, 2)


def segment_sums(log_decay: Tensor) -> Tensor:
    """Log-decay from token j to token i of one chunk: Σ_{j < t ≤ i} g_t for i ≥ j, and 0 above the diagonal.

    The `segsum` of arXiv 2405.21060, Listing 1. Each entry is summed on its own: the cheaper difference of two
    cumulative sums cancels (errors of 2e-4 in float32 at |g| ≈ 100, against 5e-7), and its factored form
    exp(c_i)·exp(−c_j) overflows.

    Args:
        log_decay: [..., C], not positive, finite.

    Returns:
        [..., C, C].
    """
    size = log_decay.shape[-1]
    terms = log_decay[..., :, None] * log_decay.new_ones(size, size).tril(-1)  # [..., t, j]: g_t where t > j
    return terms.cumsum(dim=-2)


def segment_decays(log_decay: Tensor) -> Tensor:
    """The decay matrix of one chunk: from token j to token i for i ≥ j, and 0 above the diagonal.

    Masked after exp(), where the sums above the diagonal are 0 and their exponentials 1, so that the gradient there is
    0 · 1. (Differences of cumulative sums would be large there: infinite exponentials, and NaN gradients. The paper's
    −inf before exp() does as well, but exponentials of −inf take twice as long.)

    Args:
        log_decay: [..., C], not positive, finite.

    Returns:
        [..., C, C].
    """
    return segment_sums(log_decay).exp().tril()


def unit_lower_inverse(strictly_lower: Tensor) -> Tensor:
    """(I + A)⁻¹ for strictly lower triangular A [..., C, C]; what lies on or above A's diagonal is not read.

    Diagonal blocks of 16 rows are inverted by forward substitution, then neighbouring blocks are merged:

        [ P   0 ]⁻¹   [  P⁻¹          0  ]
        [ R   Q ]   = [ −Q⁻¹ R P⁻¹   Q⁻¹ ]

    Substitution is stable where shortcuts are not: with near-identical keys and β = 1.9 a Neumann series errs by 5e-2
    to 2e19, this by 3e-6 (float32, C = 64).
    """
    result: Tensor = _UnitLowerInverse.apply(strictly_lower)
    return result


class _UnitLowerInverse(torch.autograd.Function):
    """The inverse T = (I + A)⁻¹ with its closed gradient dA = −strictLower(Tᵀ dT Tᵀ), instead of one a row."""

    @staticmethod
    def forward(context: Any, strictly_lower: Tensor) -> Tensor:
        inverse = _invert(strictly_lower)
        context.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (inverse,) = context.saved_tensors
        transposed = inverse.mT
        return -(transposed @ gradients[0] @ transposed).tril(-1)


def _invert(strictly_lower: Tensor) -> Tensor:
    shape = strictly_lower.shape
    size = LEAF_SIZE
    while size < shape[-1]:
        size *= 2
    padding = size - shape[-1]  # identity rows behind the last: they invert to themselves
    a = functional.pad(strictly_lower, (0, padding, 0, padding)) if padding else strictly_lower
    a = a.reshape(-1, size, size)
    inverse = torch.zeros_like(a)
    starts = range(0, size, LEAF_SIZE)
    leaves = _forward_substitution(torch.stack([a[:, s : s + LEAF_SIZE, s : s + LEAF_SIZE] for s in starts]))
    for leaf, s in zip(leaves, starts, strict=True):
        inverse[:, s : s + LEAF_SIZE, s : s + LEAF_SIZE] = leaf
    half = LEAF_SIZE
    while half < size:
        for s in range(0, size, 2 * half):
            upper, lower = slice(s, s + half), slice(s + half, s + 2 * half)
            below = a[:, lower, upper] @ inverse[:, upper, upper]
            inverse[:, lower, upper] = -(inverse[:, lower, lower] @ below)
        half *= 2
    return inverse[:, : shape[-1], : shape[-1]].reshape(shape)


def _forward_substitution(strictly_lower: Tensor) -> Tensor:
    """Row i of the inverse is e_i − Σ_{j < i} A_ij · row j. Matrices lie innermost, so each step is one long sweep.

    A row that is known is taken from all later ones at once.

    Args:
        strictly_lower: [L, M, C, C].

    Returns:
        [L, M, C, C], a view of [C, C, L, M].
    """
    a = strictly_lower.permute(2, 3, 0, 1).contiguous()  # [i, j, L, M]
    inverse = torch.zeros_like(a)
    inverse.diagonal(dim1=0, dim2=1).fill_(1)
    for j in range(a.shape[0] - 1):
        # [later row, 1, L, M] · [column, L, M]
        inverse[j + 1 :, : j + 1].addcmul_(a[j + 1 :, j, None], inverse[j, : j + 1], value=-1)
    return inverse.permute(2, 3, 0, 1)
