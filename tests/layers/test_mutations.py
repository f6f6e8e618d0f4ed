# ruff: noqa: E501  (a row is a line of code and its mutant, which wrapping would hide)
"""The tests' teeth: errors of convention planted one at a time, each of which the checks must catch.

Every row is an error that implementations have made or could make without noticing: most change the result by a few
percent, within what a loose tolerance lets pass. The checks are the same functions that the property tests call.
"""

import pytest
import torch

from hybrid_ops.layers import delta_rule
from tests.layers import checks, papers
from tests.layers.checks import FLOAT64, Layer, expect, relative_error
from tests.layers.inputs import MAKERS, SHORT_SEGMENTS, Inputs
from tests.layers.mutants import mutated

RECURRENT = [
    # layer, what is wrong, file, code, planted code
    ("delta_rule", "state not decayed when read inside a chunk", "delta_rule", "readers * torch.cat([from_start, from_start], dim=-1)[..., None]", "readers"),
    ("delta_rule", "queries read an undecayed state", "delta_rule", "torch.cat([from_start, from_start], dim=-1)", "torch.cat([from_start, torch.ones_like(from_start)], dim=-1)"),
    ("delta_rule", "scores of a chunk not decayed (the paper's M)", "delta_rule", "products.unbind(dim=2)", "(products[:, :, 0], (q @ k.mT).tril())"),
    ("delta_rule", "overlap of keys not decayed", "delta_rule", "products.unbind(dim=2)", "(kb @ k.mT, products[:, :, 1])"),
    ("delta_rule", "exclusive decay: a token is not decayed itself", "delta_rule", "from_start = g.cumsum(dim=-1)", "from_start = (g.cumsum(dim=-1) - g)"),
    ("delta_rule", "state decayed by the last token only", "delta_rule", "chunk_decay = from_start[..., -1, None, None]", "chunk_decay = g[..., -1, None, None].exp()"),
    ("delta_rule", "keys written without the decay that follows", "delta_rule", "(k * to_end[..., None]).mT", "k.mT"),
    ("delta_rule", "read before write", "delta_rule", '"bhk,bhkv->bhv", q, memory)', '"bhk,bhkv->bhv", q, memory - k[..., :, None] * correction[..., None, :])'),
    ("delta_rule", "decay after the read", "delta_rule", '    held = torch.einsum("bhk,bhkv->bhv", k, memory)', '    held = torch.einsum("bhk,bhkv->bhv", k, memory / g.exp().clamp(min=1e-300)[..., None, None])'),
    ("delta_rule", "β not applied to the erased value", "delta_rule", "correction = b[..., None] * (v - held)", "correction = b[..., None] * v - held"),
    ("delta_rule", "β not applied to the keys of the triangular system", "delta_rule", "kb, vb = b[..., None] * k, b[..., None] * v", "kb, vb = k, b[..., None] * v"),
    ("delta_rule", "β not applied to the values of the triangular system", "delta_rule", "kb, vb = b[..., None] * k, b[..., None] * v", "kb, vb = b[..., None] * k, v"),
    ("delta_rule", "segments forget the state", "chunks", "output, state = layer(stretch, state)\n        outputs", "output, _ = layer(stretch, state)\n        outputs"),
    ("delta_rule", "wrong head mapping: heads tiled instead of repeated", "delta_rule", "q.repeat_interleave(group, dim=-2), k.repeat_interleave(group, dim=-2)", "torch.cat([q] * group, dim=-2), torch.cat([k] * group, dim=-2)"),
    ("delta_rule", "scale applied twice", "delta_rule", "q.shape[-1] ** -0.5 if", "q.shape[-1] ** -1.0 if"),
    ("delta_rule", "keys not normalised", "delta_rule", "l2_normalise(q), l2_normalise(k)", "l2_normalise(q), k"),
    ("delta_rule", "initial state transposed", "delta_rule", "return state.to(dtype)", "return state.flatten(2).unflatten(2, state.shape[:1:-1]).mT.to(dtype)"),
    ("delta_rule", "initial state dropped", "delta_rule", "return state.to(dtype)", "return torch.zeros_like(state, dtype=dtype)"),
    ("delta_rule", "state in the input's precision", "delta_rule", "output, memory = _chunked(q, k, v, b, g, memory, chunk_size)", "output, memory = _chunked(q, k, v, b, g, memory, chunk_size); memory = memory.to(value.dtype).to(dtype)"),
    ("delta_rule", "sign of a merged block of the inverse", "chunks", "-(inverse[:, lower, lower] @ below)", "inverse[:, lower, lower] @ below"),
    ("delta_rule", "blocks of the inverse merged in the wrong order", "chunks", "inverse[:, lower, lower] @ below", "inverse[:, upper, upper] @ below"),
    ("delta_rule", "diagonal leaks: a token decays its own write", "chunks", ".tril(-1)  # [..., t, j]", ".tril()  # [..., t, j]"),
    ("delta_rule", "the future leaks: mask above the second diagonal", "chunks", ".exp().tril()", ".exp().tril(1)"),
    ("delta_rule", "padding in front instead of behind", "chunks", "+ (0, padding))", "+ (padding, 0))"),
    ("delta_rule", "packed sequences hand their state on", "packing", "state = None if initial_state is None else initial_state[n : n + 1]", "state = states[-1] if states else None if initial_state is None else initial_state[n : n + 1]"),
    ("ssd", "state not decayed when read inside a chunk", "ssd", "torch.addcmul(y, (c @ states).unflatten(3, x.shape[3:]), from_start)", "y + (c @ states).unflatten(3, x.shape[3:])"),
    ("ssd", "exclusive decay when the state is read", "ssd", "by_token(g.cumsum(dim=-1).exp())", "by_token((g.cumsum(dim=-1) - g).exp())"),
    ("ssd", "inputs written without the decay that follows", "ssd", "(x * to_end)", "x"),
    ("ssd", "Δ not applied to the input", "ssd", "(x * dt[..., None]).unflatten", "x.unflatten"),
    ("ssd", "wrong group mapping", "ssd", "b.repeat_interleave(group, dim=1), c.repeat_interleave(group, dim=1)", "b.repeat(1, group, 1), c.repeat(1, group, 1)"),
    ("ssd", "the state in front of the next chunk is read", "ssd", "        before.append(h)\n        h = torch.addcmul(addition, h, decay)\n", "        h = torch.addcmul(addition, h, decay)\n        before.append(h)\n"),
    ("ssd", "skip connection forgotten", "ssd", "y if D is None else y + x * D.to(x.dtype)[:, None]", "y"),
    ("selective_scan", "zero-order hold for B", "selective_scan", "h = h * (dt[..., None] * a).exp() + (dt * u)[..., None] * b[:, None, :]", "h = h * (dt[..., None] * a).exp() + torch.expm1(dt[..., None] * a) / a.clamp(max=-1e-9) * u[..., None] * b[:, None, :]"),
    ("selective_scan", "initial state not decayed", "selective_scan", "first = torch.addcmul(inputs[:, :1], decays[:, :1], h[:, None])", "first = inputs[:, :1] + h[:, None]"),
    ("selective_scan", "tokens between pairs read the pair after", "selective_scan", "after_second[:, : (tokens - 1) // 2]", "after_second[:, pairs - (tokens - 1) // 2 :]"),
    ("selective_scan", "pairs composed in the wrong order", "selective_scan", "torch.addcmul(second_input, second_decay, first_input)", "torch.addcmul(first_input, first_decay, second_input)"),
    ("convolution", "taps reversed", "convolution", "+ extended[:, tap : tap + tokens] * weight[:, tap]", "+ extended[:, tap : tap + tokens] * weight[:, taps - tap]"),
    ("convolution", "one token late", "convolution", "before.to(dtype), x.to(dtype)], dim=1)", "before.to(dtype), x.to(dtype).roll(1, 1)], dim=1)"),
    ("convolution", "the state keeps the oldest inputs", "convolution", "extended[:, tokens:].transpose(1, 2)", "extended[:, : taps - 1].transpose(1, 2)"),
    ("convolution", "the step forgets to drop the oldest input", "convolution", "window[..., 1:]", "window[..., :-1]"),
]  # fmt: skip

ATTENTION = [
    ("window off by one: W + 1 keys", "masks", "(distance < window)", "(distance <= window)"),
    ("a query does not see itself", "masks", "return key_position <= query_position\n", "return key_position < query_position\n"),
    ("band one key too short", "attention", "first - window + 1, 0)", "first - window + 2, 0)"),
    ("query offset forgotten", "attention", "key.shape[1] - query.shape[1] if query_offset is None", "0 if query_offset is None"),
    ("wrong head mapping", "attention", "query.to(dtype).unflatten(2, (key_heads, group)).permute(0, 2, 3, 1, 4)", "query.to(dtype).unflatten(2, (group, key_heads)).permute(0, 3, 2, 1, 4)"),
    ("scale missing", "attention", "((q * scale) @ k)", "(q @ k)"),
    ("softcap after the mask's scale: cap forgotten outside", "masks", "return cap * torch.tanh(score / cap)", "return torch.tanh(score / cap)"),
    ("ALiBi favours the distant", "masks", "(key_position - query_position).to", "(query_position - key_position).to"),
    ("ALiBi slopes start at one", "masks", "torch.arange(1, heads + 1, dtype", "torch.arange(0, heads, dtype"),
    ("prefix one key too long", "masks", "(key_position < length)", "(key_position <= length)"),
    ("documents see each other", "masks", "return same & inner(batch", "return same | inner(batch"),
]  # fmt: skip


def hard_inputs(name: str) -> list[Inputs]:
    """A few inputs with more than one chunk, more than one leaf of the inverse, and grouped heads."""
    regimes: list[dict] = [{}, {"decay_regime": "weak"}]
    if name == "delta_rule":
        regimes.append({"key_regime": "near-identical", "strength_regime": "edges", "decay_regime": "none"})
    if name == "convolution":
        regimes = [{}]
    return [MAKERS[name](seed=seed, tokens=37, **regime) for seed, regime in enumerate(regimes)]


def check_everything(layer: Layer) -> None:
    for inputs in hard_inputs(layer.name):
        for chunk_size in (16, 32):
            checks.check_paper(layer, inputs, chunk_size)
        checks.check_chunk_size(layer, inputs, 5, 32)
        checks.check_split(layer, inputs, 11, 16)
        checks.check_causality(layer, inputs, 20, 16)
        checks.check_batch(layer, inputs, 16)
        checks.check_packing(layer, inputs, [7, 0, 20], 16)
        checks.check_dtype(layer, inputs, torch.bfloat16, 16)


def check_attention(modules) -> None:
    attention, masks = modules["attention"], modules["masks"]
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, tokens, heads, 4, generator=generator, dtype=torch.float64)
        for tokens, heads in ((9, 4), (12, 2), (12, 2))
    )
    distance = torch.tensor([[3 + i - j for j in range(12)] for i in range(9)])
    documents = torch.arange(12) // 5
    slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])
    see = distance >= 0
    cases = {
        "causal": (masks.causal, None, see, {}),
        "window": (masks.sliding_window(4), None, see & (distance < 4), {}),
        "prefix": (masks.prefix_lm(5), None, see | (torch.arange(12) < 5), {}),
        "document": (masks.document(documents), None, see & (documents[3:, None] == documents), {}),
        "cap": (masks.causal, masks.tanh_softcap(1.5), see, {"cap": 1.5}),
        "alibi": (
            masks.causal,
            masks.alibi(masks.alibi_slopes(4)),
            see,
            {"bias": (-slopes[:, None, None] * distance).expand(2, -1, -1, -1)},
        ),
    }
    for name, (mask_mod, score_mod, sees, extra) in cases.items():
        expected = papers.attention(query, key, value, sees.expand(2, 4, -1, -1), **extra)
        actual = attention.attention(query, key, value, mask_mod=mask_mod, score_mod=score_mod)
        expect(name, relative_error(actual, expected), FLOAT64)
    expected = papers.attention(query, key, value, (see & (distance < 4)).expand(2, 4, -1, -1))
    actual = attention.sliding_window_attention(query, key, value, window=4, block_size=2)
    expect("banded", relative_error(actual, expected), FLOAT64)


@pytest.mark.parametrize(
    ("layer", "error", "file", "code", "planted"), RECURRENT, ids=[f"{row[0]}: {row[1]}" for row in RECURRENT]
)
def test_a_planted_error_in_a_recurrence_is_caught(layer, error, file, code, planted):
    with mutated(file, code, planted) as modules:
        modules["chunks"].SEGMENT_ELEMENTS = SHORT_SEGMENTS
        with pytest.raises(AssertionError):
            check_everything(checks.layers_of(modules)[layer])


@pytest.mark.parametrize(("error", "file", "code", "planted"), ATTENTION, ids=[row[0] for row in ATTENTION])
def test_a_planted_error_in_attention_is_caught(error, file, code, planted):
    with mutated(file, code, planted) as modules, pytest.raises(AssertionError):
        check_attention(modules)


def test_without_a_planted_error_everything_passes():
    """The counter-check: the machinery itself raises nothing."""
    with mutated("chunks", "LEAF_SIZE = 16", "LEAF_SIZE = 8") as modules:
        for layer in checks.layers_of(modules).values():
            check_everything(layer)
        check_attention(modules)


def test_how_quiet_a_wrong_convention_is():
    """Why the bounds are tight: an undecayed state inside a chunk costs a few percent, which a bfloat16 tolerance that
    is a little loose would let pass."""
    inputs = MAKERS["delta_rule"](
        batch=1, tokens=256, heads=4, group=1, key_size=64, value_size=64, decay_regime="weak"
    )
    inputs = inputs.with_state(torch.zeros_like(inputs.state))
    inputs.sequences["log_decay"] *= 0.1  # about −1e-3 a token
    exact, _ = checks.run(delta_rule.recurrent_delta_rule, inputs)
    with mutated(
        "delta_rule", "readers * torch.cat([from_start, from_start], dim=-1)[..., None]", "readers"
    ) as modules:
        wrong, _ = checks.run(modules["delta_rule"].chunked_delta_rule, inputs)
    assert 0.01 < relative_error(wrong, exact) < 0.1
