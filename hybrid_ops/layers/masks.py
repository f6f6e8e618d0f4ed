"""Which keys a query sees (mask mods) and how a score changes (score mods).

Both are plain functions of *positions*, so that one definition serves dense attention, banded attention, decoding
against a cache and, on a GPU, FlexAttention, whose signature this is (Dong et al., "Flex Attention",
arXiv 2412.05496, §3):

    mask_mod(batch, head, query_position, key_position) -> bool tensor, True where the key is seen
    score_mod(score, batch, head, query_position, key_position) -> score

All arguments are integer tensors that broadcast against each other. Positions count from the first key, so the
query offset of a decoding step is already inside `query_position`.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hybrid_ops.layers.precision import compute_dtype
from hybrid_ops.layers.validation import check_positive_integer, check_shapes

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def causal(batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
    """A query sees itself and what came before ("Attention Is All You Need", arXiv 1706.03762, §3.2.3)."""
    return key_position <= query_position


def sliding_window(window: int) -> MaskMod:
    """A query sees `window` keys: itself and the window − 1 before it (Mistral 7B, arXiv 2310.06825, §2).

    Hugging Face, vLLM and flash-linear-attention count alike; attention-gym's `q − k <= W` sees W + 1 keys.

    Raises:
        ValueError: window is less than 1.
    """
    check_positive_integer("window", window)

    def mask(batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        distance = query_position - key_position
        return (distance >= 0) & (distance < window)

    return mask


def prefix_lm(prefix_length: int | Tensor) -> MaskMod:
    """The first keys are seen by everyone, the rest causally (T5, arXiv 1910.10683, §3.2.1 and Fig. 3).

    Args:
        prefix_length: one length for all, or [B] integers.
    """
    if isinstance(prefix_length, int):
        if prefix_length < 0:
            raise ValueError(f"prefix_length: must be at least 0, got {prefix_length}")
    elif prefix_length.is_floating_point() or prefix_length.dim() != 1:
        raise ValueError(f"prefix_length: expected [B] integers, got {prefix_length.dtype} {prefix_length.shape}")

    def mask(batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        length = prefix_length if isinstance(prefix_length, int) else prefix_length[batch]
        return (key_position < length) | (key_position <= query_position)

    return mask


def document(document_of: Tensor, inner: MaskMod = causal) -> MaskMod:
    """A query sees keys of its own document only, and among those what the inner mask allows.

    Args:
        document_of: [S] integers, the document of each position.
        inner: the mask within a document. It is given positions in the packed row, which is what causal and
            sliding-window masks need, as they look at differences only.

    Raises:
        ValueError: document_of is not [S] integers.
    """
    if document_of.is_floating_point() or document_of.dim() != 1:
        raise ValueError(f"document_of: expected [S] integers, got {document_of.dtype} {tuple(document_of.shape)}")

    def mask(batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        same = document_of[query_position] == document_of[key_position]
        return same & inner(batch, head, query_position, key_position)

    return mask


def alibi_slopes(heads: int) -> Tensor:
    """The slopes of ALiBi for a power-of-two number of heads n: 2^(−8/n), 2^(−16/n), … (arXiv 2108.12409, §3).

    Returns:
        [H] float64.

    Raises:
        ValueError: heads is not a power of two, for which the paper defines no slopes.
    """
    check_positive_integer("heads", heads)
    if heads & (heads - 1):
        raise ValueError(f"heads: ALiBi's slopes are defined for a power of two, got {heads}")
    return 2.0 ** (-8.0 / heads * torch.arange(1, heads + 1, dtype=torch.float64))


def alibi(slopes: Tensor) -> ScoreMod:
    """Attention with linear biases: score + slope_h · (key − query) (Press et al., arXiv 2108.12409, §3 and Fig. 3).

    Args:
        slopes: [H], any floating dtype, from `alibi_slopes`.

    Precision: slope, distance and sum are in promote(score, float32), and are rounded to the score's dtype once.
    """
    check_shapes(slopes=(slopes, "H"))

    def modify(score: Tensor, batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        dtype = compute_dtype(score)  # a distance beyond 256 is no bfloat16
        return (score + slopes.to(dtype)[head] * (key_position - query_position).to(dtype)).to(score.dtype)

    return modify


def tanh_softcap(cap: float) -> ScoreMod:
    """Scores bent smoothly into (−cap, cap): cap · tanh(score / cap) (Gemma 2, arXiv 2408.00118, §2).

    Raises:
        ValueError: cap is not greater than 0.
    """
    if not cap > 0:
        raise ValueError(f"cap: must be greater than 0, got {cap}")

    def modify(score: Tensor, batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return modify


def tanh_softcap_approximate(cap: float) -> ScoreMod:
    """`tanh_softcap` with a rational function in place of tanh, which costs a division instead of exponentials.

    The continued fraction of tanh, cut after its seventh term (Lambert, 1768; Wall, "Analytic Theory of Continued
    Fractions", 1948, §91). It reaches 1 at 4.972, where it is clamped: off by less than 1e-4 · cap everywhere, and by
    less than 2e-12 · cap for |score| < cap. On a GPU others use the instruction `tanh.approx.f32`, off by 2⁻¹¹.

    Raises:
        ValueError: cap is not greater than 0.
    """
    if not cap > 0:
        raise ValueError(f"cap: must be greater than 0, got {cap}")

    def modify(score: Tensor, batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        x = (score / cap).clamp(-4.972, 4.972)
        square = x * x
        above = x * (135135 + square * (17325 + square * (378 + square)))
        below = 135135 + square * (62370 + square * (3150 + square * 28))
        return cap * (above / below)

    return modify


def seen_by_block(
    mask_mod: MaskMod, queries: int, keys: int, device: torch.device, block_size: int
) -> Iterator[Tensor]:
    """What a mask lets each block of queries see: [queries of the block, keys] of bool, block by block.

    The mask must be the same for every batch row and head. The queries are the last of the positions.
    """
    zero = torch.zeros((), dtype=torch.int64, device=device)
    key_position = torch.arange(keys, device=device)
    for start in range(0, queries, block_size):
        query_position = torch.arange(start, min(start + block_size, queries), device=device) + keys - queries
        yield mask_mod(zero, zero, query_position[:, None], key_position).expand(len(query_position), keys)


def block_counts(mask_mod: MaskMod, queries: int, keys: int, device: torch.device, block_size: int = 128) -> Tensor:
    """How many (query, key) pairs a mask lets through in each block of both.

    Args:
        mask_mod: the same for every batch row and head.
        queries, keys: T and S; the queries are the last T of S positions.
        device: where to compute it.
        block_size: queries, and keys, of a block.

    Returns:
        [⌈T / block_size⌉, ⌈S / block_size⌉] integers.
    """
    padding = -keys % block_size
    rows = [
        torch.nn.functional.pad(seen.sum(dim=0), (0, padding)).unflatten(0, (-1, block_size)).sum(dim=1)
        for seen in seen_by_block(mask_mod, queries, keys, device, block_size)
    ]
    return torch.stack(rows)
