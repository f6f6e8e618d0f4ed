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
from tests.layers.mutants import fails, mutated
from tests.layers.test_models import config_of

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

FORMULA = ("test_parameters", "test_every_function_is_its_formula_for_every_argument")
AUTOCAST = ("test_parameters", "test_autocast_changes_nothing_however_the_arguments_are_ordered")
LOGITS = ("test_configurations", "test_logits_are_transformers_for_every_field")
RECURRENT_ROUNDS = ("test_precision", "test_recurrent_layers_round_once")
STEP_ROUNDS = ("test_precision", "test_single_tokens_round_once")
ATTENTION_ROUNDS = ("test_precision", "test_attention_rounds_once")
SHORT = (torch.bfloat16, torch.float32)
GRADIENTS = ("test_states", "test_gradients_of_a_mixer_go_through_the_state")

QUIET = [
    # what is wrong, file, code, planted code, the test that fails: its module, name and arguments
    # Arguments that seldom have another value.
    ("the inner mask of documents is taken to be causal", "masks", "return same & inner(batch", "return same & causal(batch", (*FORMULA, "document")),
    ("all rows have the prefix of the first", "masks", "else prefix_length[batch]", "else prefix_length[0 * batch]", (*FORMULA, "prefix_lm")),
    ("all rows turn by the positions of the first", "rotary", "positions.double()[..., None, None]", "(positions if positions.dim() == 1 else positions[:1]).double()[..., None, None]", (*FORMULA, "apply_rotary")),
    ("the band begins where the first row's does", "attention", "(int(offset.min()), int(offset.max()))", "(int(offset[0]), int(offset.max()))", (*FORMULA, "sliding_window_attention")),
    ("blocks forget a given scale", "attention", "_attend(block, key[:, band], value[:, band], mask, score_mod, scale, position, band.start)", "_attend(block, key[:, band], value[:, band], mask, score_mod, None, position, band.start)", (*FORMULA, "block_sparse_attention")),
    ("a token's given scale is forgotten", "delta_rule", "_prepare((query, key, value, beta, gate), scale, normalise, dtype)", "_prepare((query, key, value, beta, gate), None, normalise, dtype)", (*FORMULA, "step_delta_rule")),
    ("a token is normalised even if it should not be", "delta_rule", "_prepare((query, key, value, beta, gate), scale, normalise, dtype)", "_prepare((query, key, value, beta, gate), scale, True, dtype)", (*FORMULA, "step_delta_rule")),
    ("groups are normed as one", "norms", "y.unflatten(-1, (-1, group_size))", "y.unflatten(-1, (1, -1))", (*FORMULA, "gated_rms_norm")),
    ("the length of a key has a fixed ε", "norms", "x.square().sum(dim=-1, keepdim=True) + epsilon)", "x.square().sum(dim=-1, keepdim=True) + 1e-6)", (*FORMULA, "l2_normalise")),
    ("the step has no upper limit", "mixers", ".clamp(*self.step_limits)", ".clamp(min=self.step_limits[0])", (*LOGITS, "mamba2")),
    ("sparse layers are counted from zero", "language_model", "(i + 1) % config.decoder_sparse_step == 0", "i % config.decoder_sparse_step == 0", (*LOGITS, "qwen3_next")),
    ("the experts' shares always sum to one", "blocks", "        if self.normalise:\n", "        if True:\n", (*LOGITS, "qwen3_next")),
    ("scores are never bent inside attention", "language_model", "softcap=config.attn_logit_softcapping,", "softcap=None,", (*LOGITS, "gemma3_text")),
    ("the scan's inner norms take the blocks' ε", "language_model", "config.mixer_rms_eps if", "config.layer_norm_epsilon if", (*LOGITS, "falcon_mamba")),
    ("the norm of OLMo's delta rule takes another ε", "mixers", 'GatedRMSNorm(sizes.value_size, 1e-5, "norm_before_gate")', 'GatedRMSNorm(sizes.value_size, 6e-6, "norm_before_gate")', (*LOGITS, "olmo_hybrid")),
    ("norms of a head have the default ε", "language_model", 'options.setdefault("norm_epsilon", config.rms_norm_eps)', "pass", (*LOGITS, "gemma3_text")),
    # Precision that a tolerance of bfloat16 lets pass.
    ("probabilities in the values' dtype", "attention", "output = (weights @ v)", "output = (weights.to(value.dtype).to(dtype) @ v)", (*ATTENTION_ROUNDS, "whole", None, None)),
    ("scaled queries in their own dtype", "attention", "((q * scale) @ k)", "((q * scale).to(query.dtype).to(dtype) @ k)", (*ATTENTION_ROUNDS, "by blocks", None, 0.3)),
    ("scores in the queries' dtype", "attention", "@ k).unflatten(2, (group, queries))", "@ k).to(query.dtype).to(dtype).unflatten(2, (group, queries))", (*ATTENTION_ROUNDS, "window", "cap", None)),
    ("slopes in bfloat16", "masks", "slopes.to(dtype)[head]", "slopes.bfloat16().to(dtype)[head]", (*ATTENTION_ROUNDS, "whole", "slopes", None)),
    ("gates in the values' dtype", "delta_rule", "q, k, v, b, g = (x.to(dtype) for x in sequences)", "q, k, v, b, g = (x.to(sequences[2].dtype).to(dtype) for x in sequences)", (*RECURRENT_ROUNDS, "chunked_delta_rule", *SHORT)),
    ("normalised keys in their own dtype", "delta_rule", "q, k = l2_normalise(q), l2_normalise(k)", "q, k = (l2_normalise(x).to(sequences[0].dtype).to(dtype) for x in (q, k))", (*STEP_ROUNDS, "step_delta_rule", *SHORT)),
    ("steps in the values' dtype", "ssd", "x_, b, c, step = (tensor.to(dtype) for tensor in sequences)\n        y, h = _chunked", "x_, b, c, step = (tensor.to(x.dtype).to(dtype) for tensor in sequences)\n        y, h = _chunked", (*RECURRENT_ROUNDS, "chunked_ssd", *SHORT)),
    ("the skip connection in bfloat16", "ssd", "y + x * D.to(x.dtype)[:, None]", "y + x * D.bfloat16().to(x.dtype)[:, None]", (*STEP_ROUNDS, "step_ssd", *SHORT)),
    ("rates in bfloat16", "precision", "return rate.to(dtype).clamp", "return rate.bfloat16().to(dtype).clamp", (*RECURRENT_ROUNDS, "chunked_selective_scan", *SHORT)),
    ("taps in the inputs' dtype", "convolution", "y = y + extended[:, tap : tap + tokens] * weight[:, tap].to(dtype)", "y = y + extended[:, tap : tap + tokens] * weight[:, tap].to(x.dtype).to(dtype)", (*RECURRENT_ROUNDS, "causal_convolution", *SHORT)),
    ("rounded before the bias and the activation", "convolution", "return _finish(y, bias, activation).to(x.dtype), window", "return _finish(y.to(x.dtype).to(dtype), bias, activation).to(x.dtype), window", (*STEP_ROUNDS, "step_causal_convolution", *SHORT)),
    ("1 + weight in the weight's dtype", "norms", "(offset + weight.to(x.dtype))", "(offset + weight).to(x.dtype)", ("test_precision", "test_norms_round_once", torch.bfloat16, "norm_before_gate", None)),
    ("the gate's silu in the gate's dtype", "norms", "functional.silu(gate.to(dtype))", "functional.silu(gate).to(dtype)", ("test_precision", "test_norms_round_once", torch.bfloat16, "gate_before_norm", 16)),
    ("angles in float32", "rotary", "positions.double()[..., None, None] * frequencies.double()", "positions.float()[..., None, None] * frequencies.float()", ("test_precision", "test_positions_and_angles_are_never_short", 2**20 + 500, torch.float64, torch.int64)),
    ("sines and cosines in the queries' dtype", "rotary", "angles.cos().to(dtype), angles.sin().to(dtype)", "angles.cos().to(x.dtype).to(dtype), angles.sin().to(x.dtype).to(dtype)", ("test_precision", "test_positions_and_angles_are_never_short", 200, torch.float64, torch.int64)),
    ("frequencies are moved to bfloat16 with the weights", "mixers", "        self.frequencies = frequencies  #", '        self.register_buffer("frequencies", frequencies, persistent=False)  #', ("test_precision", "test_a_rotary_mixer_in_bfloat16_keeps_its_frequencies")),
    ("the step's bias is added in bfloat16", "mixers", "widen(functional.linear(low, self.dt_proj.weight)) + widen(self.dt_proj.bias)", "widen(self.dt_proj(low))", ("test_precision", "test_the_step_of_mamba_adds_its_bias_in_float32")),
    ("every embedding's multiplier is rounded", "language_model", "if self.rounds_multiplier else multiplier", "if True else multiplier", ("test_precision", "test_the_embedding_is_scaled_as_the_released_models_scale_it", False)),
    ("no embedding's multiplier is rounded", "language_model", "if self.rounds_multiplier else multiplier", "if False else multiplier", ("test_precision", "test_the_embedding_of_gemma_in_bfloat16_is_transformers")),
    ("autocast is on where an option comes first", "precision", "kind = next((tensor.device.type for tensor in tensors), \"meta\")", "first = args[0] if args else next(iter(kwargs.values()))\n        kind = first.device.type if isinstance(first, Tensor) else \"meta\"", (*AUTOCAST, "chunked_delta_rule")),
    ("autocast is on for a norm", "norms", "@without_autocast\ndef gated_rms_norm", "def gated_rms_norm", ("test_parameters", "test_autocast_is_off_inside_every_function_that_computes", "gated_rms_norm")),
    # State that is shared, and where gradients end.
    ("a window's cache keeps one entry too many", "mixers", "(self.window - 1), 0)", "self.window, 0)", ("test_states", "test_a_state_is_as_large_as_what_a_later_token_needs", "window")),
    ("the memory of the caller is written to", "mixers", "        return self.finish(y, z), RecurrentState(convolution, memory)", "        if state is not None:\n            state.memory.data.copy_(memory)\n        return self.finish(y, z), RecurrentState(convolution, memory)", ("test_states", "test_a_mixer_does_not_write_to_the_state_it_is_given", "OLMo's delta rule", 1, False)),
    ("the cached keys of the caller are turned further", "mixers", "torch.cat([state.key, key], dim=1)", "torch.cat([state.key.data.mul_(1 + 1e-3), key], dim=1)", ("test_states", "test_a_mixer_does_not_write_to_the_state_it_is_given", "attention, softcap", 2, True)),
    ("gradients end at the cached keys", "mixers", "torch.cat([state.key, key], dim=1)", "torch.cat([state.key.detach(), key], dim=1)", (*GRADIENTS, "window", (5, 5))),
    ("gradients end at a convolution's state", "mixers", "RecurrentState(convolution, memory)\n\n\nclass Mamba1", "RecurrentState(convolution.detach(), memory)\n\n\nclass Mamba1", (*GRADIENTS, "Mamba-2, bare gate", (3, 1, 1, 5))),
    ("gradients end at each segment", "chunks", "output, state = layer(stretch, state)", "output, state = layer(stretch, state.detach())", ("test_states", "test_gradients_of_a_function_go_through_the_state_and_into_packed_ones", "delta_rule", "chunked_delta_rule")),
    ("gradients end at the states of packed sequences", "packing", "initial_state[n : n + 1]", "initial_state[n : n + 1].detach()", ("test_states", "test_gradients_of_a_function_go_through_the_state_and_into_packed_ones", "ssd", "recurrent_ssd")),
    # Extremes.
    ("an infinite rate has the gradient NaN", "precision", "return rate.to(dtype).clamp(min=torch.finfo(dtype).min)", "return rate.to(dtype)", ("test_states", "test_an_infinite_rate_forgets_in_every_form_and_has_finite_gradients", "selective_scan", torch.float32)),
    ("an infinite rate is not bounded in a chunk", "ssd", "into_chunks((dt * a).clamp(min=LOWEST_LOG_DECAY), chunk_size)", "into_chunks(dt * a, chunk_size)", ("test_states", "test_an_infinite_rate_forgets_in_every_form_and_has_finite_gradients", "ssd", torch.float32)),
    ("a total reset is not bounded in a chunk", "delta_rule", "g = g.clamp(min=LOWEST_LOG_DECAY)", "g = g.clamp(min=-torch.inf)", (*FORMULA, "chunked_delta_rule")),
]  # fmt: skip
"""Errors outside the default path, which is where other people's planted errors survived: none changes a typical output
by 5 %, most do not change it at all."""


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


MODELS = ("falcon_h1", "falcon_mamba", "gemma3_text", "mamba2", "olmo_hybrid", "qwen3_next")


def typical_outputs(modules, models: bool) -> dict[str, torch.Tensor]:
    """What the layers give for what they are mostly given: no options, bfloat16 values beside float32 gates, and whole
    models in float32 at the configurations of `test_models`."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 40, heads, 16).bfloat16() for heads in (4, 2, 2))
    attention, masks, norms, rotary = (modules[name] for name in ("attention", "masks", "norms", "rotary"))
    slopes = masks.alibi(masks.alibi_slopes(4))
    outputs = {
        "attention": attention.attention(query, key, value),
        "linear biases": attention.attention(query, key, value, score_mod=slopes),
        "window": attention.sliding_window_attention(query, key, value, window=9),
        "blocks": attention.block_sparse_attention(query, key, value, block_size=8),
        "documents": attention.attention(query, key, value, mask_mod=masks.document(torch.arange(40) // 10)),
        "prefix": attention.attention(query, key, value, mask_mod=masks.prefix_lm(9)),
        "norm": norms.rms_norm(query, torch.rand(16).bfloat16(), epsilon=1e-6, offset=1.0),
        "gated norm": norms.gated_rms_norm(query, query.flip(1), None, epsilon=1e-6, order="gate_before_norm"),
        "rotary": rotary.apply_rotary(query, torch.arange(40), rotary.rotary_frequencies(16, theta=1e4)),
    }
    for name, layer in checks.layers_of(modules).items():
        inputs = MAKERS[name](tokens=24)
        values = ("query", "key", "value", "x", "u", "B", "C")
        given = {key: x.bfloat16() if key in values else x.float() for key, x in inputs.sequences.items()}
        parameters = {key: x.float() for key, x in inputs.parameters.items()}
        outputs[name] = layer.chunked(**given, **parameters, initial_state=inputs.state.float())[0]
        token = {key: x[:, 0] for key, x in given.items()}
        outputs[f"{name}, token"] = layer.step(**token, **parameters, state=inputs.state.float())[0]
    for name in MODELS if models else ():
        torch.manual_seed(0)
        model = modules["language_model"].from_config(config_of(name))
        with torch.no_grad():
            outputs[name] = model(torch.arange(24).view(2, 12))[0]
    return outputs


@pytest.mark.parametrize(("error", "file", "code", "planted", "test"), QUIET, ids=[row[0] for row in QUIET])
def test_a_quiet_planted_error_is_caught(error, file, code, planted, test):
    models = file in ("mixers", "blocks", "language_model")
    with mutated("chunks", "LEAF_SIZE = 16", "LEAF_SIZE = 16 ") as modules:
        right = typical_outputs(modules, models)
    with mutated(file, code, planted) as modules:
        wrong = typical_outputs(modules, models)
        loudest = max(relative_error(wrong[name], right[name]) for name in right)
        assert loudest < 0.05, f"not quiet: it changes a typical output by {loudest:.1%}"
        assert fails(modules, *test), "no test noticed"


CATCHERS = list({row[4][:2]: row[4] for row in QUIET}.values())
"""Each test of them once, with the arguments of one row."""


@pytest.mark.parametrize("test", CATCHERS, ids=lambda test: " ".join(map(str, test[1:])))
def test_without_a_planted_error_the_tests_of_quiet_ones_pass(test):
    with mutated("chunks", "LEAF_SIZE = 16", "LEAF_SIZE = 16 ") as modules:
        assert not fails(modules, *test)
