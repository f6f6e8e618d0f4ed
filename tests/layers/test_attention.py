"""Attention against the paper's sum over the keys that a query sees, for every mask and score mod."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from hybrid_ops.layers import masks
from hybrid_ops.layers.attention import attention, block_sparse_attention, sliding_window_attention
from tests.layers import papers
from tests.layers.checks import BFLOAT16, FLOAT32, FLOAT64, expect, relative_error


def draw_heads(
    seed: int, batch: int, queries: int, keys: int, key_heads: int, group: int, size: int = 4, value_size: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return (
        3 * normal(batch, queries, key_heads * group, size),  # scores that a softmax feels
        normal(batch, keys, key_heads, size),
        normal(batch, keys, key_heads, value_size),
    )


shapes = given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 2),
    queries=st.integers(1, 12),
    past=st.integers(0, 9),
    key_heads=st.integers(1, 2),
    group=st.sampled_from([1, 2, 4]),
    data=st.data(),
)


def distances(query: Tensor, key: Tensor) -> Tensor:
    """How far each key lies in front of each query, [T, S], where the queries are the last of the positions."""
    queries, keys = query.shape[1], key.shape[1]
    return torch.tensor([[keys - queries + i - j for j in range(keys)] for i in range(queries)])


def everywhere(sees: Tensor, query: Tensor) -> Tensor:
    return sees.expand(query.shape[0], query.shape[2], *sees.shape[-2:])


def mask_cases(query: Tensor, key: Tensor, data: st.DataObject) -> dict[str, tuple]:
    """Each variant of the attention benchmark: its mods, and which keys are seen written out independently."""
    distance = distances(query, key)
    window = data.draw(st.integers(1, 9), label="window")
    prefix = data.draw(st.integers(0, 12), label="prefix")
    documents = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=key.shape[1], max_size=key.shape[1])))
    key_index = torch.arange(key.shape[1])
    query_documents = documents[key.shape[1] - query.shape[1] :]
    heads = query.shape[2]
    slopes = torch.tensor([2 ** (-8 * (h + 1) / heads) for h in range(heads)], dtype=torch.float64)
    return {
        "causal": (masks.causal, None, distance >= 0, {}),
        "sliding window": (masks.sliding_window(window), None, (distance >= 0) & (distance <= window - 1), {}),
        "prefix-LM": (masks.prefix_lm(prefix), None, (distance >= 0) | (key_index < prefix), {}),
        "document": (
            masks.document(documents),
            None,
            (distance >= 0) & (query_documents[:, None] == documents),
            {},
        ),
        "full": (None, None, torch.ones_like(distance, dtype=torch.bool), {}),
        "ALiBi": (
            masks.causal,
            masks.alibi(masks.alibi_slopes(heads)),
            distance >= 0,
            {"bias": (-slopes[:, None, None] * distance).expand(query.shape[0], -1, -1, -1)},
        ),
        "tanh softcap": (masks.causal, masks.tanh_softcap(2.0), distance >= 0, {"cap": 2.0}),
    }


@pytest.mark.parametrize("case", ["causal", "sliding window", "prefix-LM", "document", "full", "ALiBi", "tanh softcap"])
@shapes
def test_every_variant_is_the_papers_sum(case, seed, batch, queries, past, key_heads, group, data):
    query, key, value = draw_heads(seed, batch, queries, queries + past, key_heads, group)
    mask_mod, score_mod, sees, extra = mask_cases(query, key, data)[case]
    expected = papers.attention(query, key, value, everywhere(sees, query), **extra)
    actual = attention(query, key, value, mask_mod=mask_mod, score_mod=score_mod)
    expect(case, relative_error(actual, expected), FLOAT64)


@pytest.mark.parametrize("case", ["plain", "ALiBi", "tanh softcap"])
@shapes
def test_banded_attention_is_dense_attention_with_a_window(case, seed, batch, queries, past, key_heads, group, data):
    query, key, value = draw_heads(seed, batch, queries, queries + past, key_heads, group)
    window, block = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 14))
    score_mod = {
        "plain": None,
        "ALiBi": masks.alibi(masks.alibi_slopes(query.shape[2])),
        "tanh softcap": masks.tanh_softcap(2.0),
    }[case]
    expected = attention(query, key, value, mask_mod=masks.sliding_window(window), score_mod=score_mod)
    actual = sliding_window_attention(query, key, value, window=window, block_size=block, score_mod=score_mod)
    expect("banded = dense", relative_error(actual, expected), FLOAT64)


@shapes
def test_banded_attention_is_the_papers_sum(seed, batch, queries, past, key_heads, group, data):
    query, key, value = draw_heads(seed, batch, queries, queries + past, key_heads, group)
    window, distance = data.draw(st.integers(1, 25)), distances(query, key)
    sees = everywhere((distance >= 0) & (distance < window), query)
    actual = sliding_window_attention(query, key, value, window=window, block_size=data.draw(st.integers(1, 14)))
    expect("banded = paper", relative_error(actual, papers.attention(query, key, value, sees)), FLOAT64)


@pytest.mark.parametrize("case", ["causal", "sliding window", "prefix-LM", "document", "full", "ALiBi", "tanh softcap"])
@shapes
def test_attention_by_blocks_is_the_papers_sum(case, seed, batch, queries, past, key_heads, group, data):
    query, key, value = draw_heads(seed, batch, queries, queries + past, key_heads, group)
    mask_mod, score_mod, sees, extra = mask_cases(query, key, data)[case]
    expected = papers.attention(query, key, value, everywhere(sees, query), **extra)
    block = data.draw(st.integers(1, 14), label="block")
    actual = block_sparse_attention(query, key, value, mask_mod=mask_mod, score_mod=score_mod, block_size=block)
    expect(case, relative_error(actual, expected), FLOAT64)


@pytest.mark.parametrize("case", ["causal", "sliding window", "prefix-LM", "document", "full"])
@shapes
def test_counts_by_block_are_the_pairs_that_are_seen(case, seed, batch, queries, past, key_heads, group, data):
    query, key, _ = draw_heads(seed, batch, queries, queries + past, key_heads, group)
    mask_mod, _, sees, _ = mask_cases(query, key, data)[case]
    block = data.draw(st.integers(1, 14), label="block")
    if mask_mod is None:
        mask_mod = masks.prefix_lm(key.shape[1])
    counts = masks.block_counts(mask_mod, query.shape[1], key.shape[1], query.device, block)
    rows = [[part.sum().item() for part in row.split(block, 1)] for row in sees.split(block, 0)]
    assert counts.tolist() == rows


def test_a_query_of_a_block_that_sees_nothing_gives_zeros():
    query, key, value = draw_heads(0, 1, 6, 6, 1, 1)
    late = block_sparse_attention(query, key, value, mask_mod=lambda b, h, q, k: (q >= 4) & (k <= q), block_size=2)
    assert torch.equal(late[:, :4], torch.zeros_like(late[:, :4]))
    expect("the rest", relative_error(late[:, 4:], attention(query, key, value)[:, 4:]), FLOAT64)


@given(
    scores=st.lists(st.floats(-1e30, 1e30) | st.floats(-10, 10), min_size=1, max_size=20),
    cap=st.sampled_from([0.5, 30.0, 50.0]),
)
def test_the_approximate_softcap_is_near_the_exact_one(scores, cap):
    zero = torch.zeros((), dtype=torch.int64)
    score = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    near = masks.tanh_softcap_approximate(cap)(score, zero, zero, zero, zero)
    error = (near - masks.tanh_softcap(cap)(score, zero, zero, zero, zero)).abs()
    assert error.max().item() < 1e-4 * cap
    assert error[score.abs() < cap].sum().item() <= len(scores) * 2e-12 * cap
    near.sum().backward()
    assert score.grad is not None and bool(score.grad.isfinite().all())
    in_float32 = masks.tanh_softcap_approximate(cap)(score.detach().float(), zero, zero, zero, zero)
    assert bool(in_float32.isfinite().all())


@pytest.mark.parametrize("window", [None, 3, 64])
@shapes
def test_prefill_is_decoding_against_a_cache(window, seed, batch, queries, past, key_heads, group, data):
    query, key, value = draw_heads(seed, batch, queries, queries, key_heads, group)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v) if window is None else sliding_window_attention(q, k, v, window=window)

    steps = [attend(query[:, t : t + 1], key[:, : t + 1], value[:, : t + 1]) for t in range(queries)]
    expect("decode = prefill", relative_error(torch.cat(steps, dim=1), attend(query, key, value)), FLOAT64)


@pytest.mark.parametrize("window", [None, 4])
def test_a_batch_of_caches_of_different_lengths(window):
    query, key, value = draw_heads(1, 3, 2, 11, 2, 2)
    offsets = torch.tensor([0, 5, 9])

    def attend(*heads: Tensor, query_offset: int | Tensor | None) -> Tensor:
        if window is None:
            return attention(*heads, query_offset=query_offset)
        return sliding_window_attention(*heads, window=window, query_offset=query_offset, block_size=1)

    together = attend(query, key, value, query_offset=offsets)
    for row, offset in enumerate(offsets.tolist()):
        cut = slice(row, row + 1)
        alone = attend(query[cut], key[cut, : offset + 2], value[cut, : offset + 2], query_offset=offset)
        expect(f"row {row}", relative_error(together[cut], alone), FLOAT64)


@pytest.mark.parametrize("window", [None, 3])
@given(seed=st.integers(0, 2**31), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_packed_sequences_do_not_meet(window, seed, lengths):
    query, key, value = draw_heads(seed, 1, sum(lengths), sum(lengths), 2, 2)
    boundaries = torch.tensor([0, *lengths]).cumsum(0)

    def attend(*heads: Tensor, **options: Tensor) -> Tensor:
        return (
            attention(*heads, **options)
            if window is None
            else sliding_window_attention(*heads, window=window, block_size=2, **options)
        )

    alone = [attend(*(x[:, a:b] for x in (query, key, value))) for a, b in pairwise(boundaries.tolist())]
    packed = attend(query, key, value, cu_seqlens=boundaries)
    assert torch.equal(packed, torch.cat(alone, dim=1))
    if window is None:  # the same by a mask: documents of one packed row
        document_of = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        masked = attention(query, key, value, mask_mod=masks.document(document_of))
        expect("cu_seqlens = document mask", relative_error(masked, packed), FLOAT64)


@given(seed=st.integers(0, 2**31), at=st.integers(0, 10))
def test_the_future_does_not_change_the_past(seed, at):
    query, key, value = draw_heads(seed, 2, 10, 10, 2, 2)
    other = draw_heads(seed + 1, 2, 10, 10, 2, 2)
    changed = [
        torch.cat([old[:, :at], new[:, at:]], dim=1) for old, new in zip((query, key, value), other, strict=True)
    ]
    for attend in (attention, lambda *heads: sliding_window_attention(*heads, window=4, block_size=3)):
        assert torch.equal(attend(*changed)[:, :at], attend(query, key, value)[:, :at])


def test_a_key_leaves_the_window_exactly_when_it_should():
    """W keys including self: the key at distance W − 1 is the last that counts."""
    query, key, value = draw_heads(0, 1, 12, 12, 1, 1)
    moved = value.clone()
    moved[:, 4] += 1.0
    difference = sliding_window_attention(query, key, moved, window=5) - sliding_window_attention(
        query, key, value, window=5
    )
    touched = difference.abs().sum(dim=(0, 2, 3)).nonzero()[:, 0].tolist()
    assert touched == [4, 5, 6, 7, 8]


def test_a_query_that_sees_nothing_gives_zeros_and_finite_gradients():
    query, key, value = (x.requires_grad_() for x in draw_heads(0, 1, 3, 3, 1, 2))
    output = attention(query, key, value, query_offset=-2)
    assert torch.equal(output[:, :2], torch.zeros_like(output[:, :2]))
    output.sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in (query, key, value))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, FLOAT32), (torch.bfloat16, BFLOAT16)], ids=str)
@pytest.mark.parametrize("window", [None, 7])
def test_lower_precision_costs_only_its_rounding(dtype, bound, window):
    heads = [x.to(dtype) for x in draw_heads(3, 2, 40, 40, 2, 2, 16, 16)]
    options = {} if window is None else {"window": window, "block_size": 8}
    attend = attention if window is None else sliding_window_attention
    actual = attend(*heads, **options)
    assert actual.dtype == dtype
    expect(str(dtype), relative_error(actual, attend(*(x.double() for x in heads), **options)), bound)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_agrees_with_torchs_attention(group):
    query, key, value = draw_heads(5, 2, 33, 33, 2, group, 8, 8)
    heads_first = [x.transpose(1, 2) for x in (query, key, value)]
    expected = functional.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True).transpose(1, 2)
    expect("SDPA", relative_error(attention(query, key, value), expected), FLOAT64)


@pytest.mark.parametrize(
    ("mask_mod", "score_mod"),
    [
        (masks.causal, None),
        (masks.sliding_window(9), None),
        (masks.prefix_lm(6), None),
        (masks.document(torch.arange(33) // 11), None),
        (masks.causal, masks.alibi(masks.alibi_slopes(4))),
        (masks.causal, masks.tanh_softcap(3.0)),
        (masks.causal, masks.tanh_softcap_approximate(3.0)),
    ],
    ids=["causal", "sliding window", "prefix-LM", "document", "ALiBi", "tanh softcap", "approximate softcap"],
)
@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")
def test_mods_mean_to_flex_attention_what_they_mean_here(mask_mod, score_mod):
    query, key, value = (x.float() for x in draw_heads(6, 2, 33, 33, 2, 2, 8, 8))
    heads_first = [x.transpose(1, 2) for x in (query, key, value)]
    mask = create_block_mask(mask_mod, 2, 4, 33, 33, device="cpu")
    expected = flex_attention(*heads_first, score_mod=score_mod, block_mask=mask, enable_gqa=True).transpose(1, 2)
    actual = attention(query, key, value, mask_mod=mask_mod, score_mod=score_mod)
    expect("FlexAttention", relative_error(actual, expected), FLOAT32)
