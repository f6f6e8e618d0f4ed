"""Which keys a query sees (mask mods) and how a score changes (score mods).

Both are plain functions of *positions*, so that one definition serves dense attention, banded attention, decoding
against a cache and, on a GPU, FlexAttention, whose signature this is (Dong et al., "Flex Attention",
arXiv 2412.05496, §3):

    mask_mod(batch, head, query_position, key_position) -> bool tensor, True where the key is seen
    score_mod(score, batch, head, query_position, key_position) -> score

All arguments are integer tensors that broadcast against each other. Positions count from the first key, so the
query offset of a decoding step is already inside `query_position`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

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
        slopes: [H], from `alibi_slopes`.
    """
    check_shapes(slopes=(slopes, "H"))

    def modify(score: Tensor, batch: Tensor, head: Tensor, query_position: Tensor, key_position: Tensor) -> Tensor:
        return score + slopes.to(score.dtype)[head] * (key_position - query_position).to(score.dtype)

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
