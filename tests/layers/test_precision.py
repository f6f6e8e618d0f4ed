"""The contract of mixed precision: which arguments may differ in dtype, what is computed in what, and what is rounded.

An output that is rounded once, at the end, is the exact result rounded to its dtype, number by number: float32 inside
moves one in a thousand numbers across a boundary between two bfloat16. Any earlier rounding, of a gate, a step, a
product, a probability, a normalised key or a scale, moves one in five or more. So these tests count the numbers that
are not the exact result's rounding, where a relative bound of 2⁻⁸ would let every one of those choices pass.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hybrid_ops.layers import masks, mixers
from hybrid_ops.layers.attention import attention, block_sparse_attention, sliding_window_attention
from hybrid_ops.layers.blocks import SparseMLP
from hybrid_ops.layers.convolution import causal_convolution, step_causal_convolution
from hybrid_ops.layers.delta_rule import chunked_delta_rule, recurrent_delta_rule, step_delta_rule
from hybrid_ops.layers.language_model import LanguageModel, from_config
from hybrid_ops.layers.mixers import Attention, Mamba1, RMSNorm
from hybrid_ops.layers.norms import gated_rms_norm, l2_normalise, rms_norm
from hybrid_ops.layers.rotary import apply_rotary, rotary_frequencies
from hybrid_ops.layers.selective_scan import chunked_selective_scan, recurrent_selective_scan, step_selective_scan
from hybrid_ops.layers.ssd import chunked_ssd, recurrent_ssd, step_ssd
from tests.layers import papers
from tests.layers.checks import FLOAT32, expect, relative_error
from tests.layers.inputs import MAKERS
from tests.layers.test_models import config_of

STATES = FLOAT32
"""Of a state, which is in float32: a bfloat16 anywhere on its way costs 1e-3."""
MOVED = 0.02
"""The share of an output's numbers that may be one step off its exact rounding."""


def wrongly_rounded(actual: Tensor, exact: Tensor) -> float:
    """The share of numbers that are not the exact result's rounding to the actual dtype."""
    assert actual.shape == exact.shape
    assert exact.dtype == torch.float64
    return (actual != exact.to(actual.dtype)).double().mean().item()


VALUES = {"query", "key", "value", "x", "u", "B", "C"}
"""Arguments that share one dtype; all others may have their own."""

RECURRENT = {
    chunked_delta_rule: ("delta_rule", papers.delta_rule),
    recurrent_delta_rule: ("delta_rule", papers.delta_rule),
    chunked_ssd: ("ssd", papers.ssd),
    recurrent_ssd: ("ssd", papers.ssd),
    chunked_selective_scan: ("selective_scan", papers.selective_scan),
    recurrent_selective_scan: ("selective_scan", papers.selective_scan),
    causal_convolution: ("convolution", papers.causal_convolution),
}
STEPS = {
    step_delta_rule: ("delta_rule", papers.delta_rule),
    step_ssd: ("ssd", papers.ssd),
    step_selective_scan: ("selective_scan", papers.selective_scan),
    step_causal_convolution: ("convolution", papers.causal_convolution),
}
SIZES = {
    "delta_rule": {"key_size": 8, "value_size": 24, "decay_regime": "medium"},
    "ssd": {"head_size": 24, "state_size": 8},
    "selective_scan": {"channels": 48, "state_size": 4},
    "convolution": {"channels": 48},
}
MIXTURES = [
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float64),
]
"""The dtypes of the values, and of gates, steps, parameters and the state."""
mixtures = pytest.mark.parametrize(("values", "others"), MIXTURES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def mixed(name: str, tokens: int, values: torch.dtype, others: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
    """The arguments of a recurrence in two dtypes, and its state."""
    inputs = MAKERS[name](seed=4, tokens=tokens, **SIZES[name])
    arguments = inputs.sequences | inputs.parameters
    given = {key: tensor.to(values if key in VALUES else others) for key, tensor in arguments.items()}
    return given, inputs.state.to(others)


def exactly(paper: Callable, given: dict[str, Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
    """What the paper's loop gives for the same numbers in float64."""
    wide = {key: tensor.double() for key, tensor in given.items()}
    in_order = [tensor for key, tensor in wide.items() if key in VALUES]
    return paper(*in_order, **{k: v for k, v in wide.items() if k not in VALUES}, initial_state=state.double())


def check_contract(actual: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor], values: torch.dtype, wide: torch.dtype):
    """The output in the values' dtype, rounded once; the state in the widest dtype, not rounded."""
    assert (actual[0].dtype, actual[1].dtype) == (values, wide)
    if values == torch.float32:
        bound = FLOAT32 if wide == torch.float32 else 2.0**-24
        expect("output", relative_error(actual[0], exact[0]), bound)
    else:
        assert wrongly_rounded(actual[0], exact[0]) <= MOVED
    expect("state", relative_error(actual[1], exact[1]), STATES if wide == torch.float32 else 1e-11)


@pytest.mark.parametrize("form", RECURRENT, ids=lambda form: form.__name__)
@mixtures
def test_recurrent_layers_round_once(form, values, others):
    name, paper = RECURRENT[form]
    given, state = mixed(name, 12, values, others)
    exact = exactly(paper, given, state)
    wide = torch.promote_types(torch.float32, torch.promote_types(others, state.dtype))
    check_contract(form(**given, initial_state=state), exact, values, wide)


@pytest.mark.parametrize("form", STEPS, ids=lambda form: form.__name__)
@mixtures
def test_single_tokens_round_once(form, values, others):
    name, paper = STEPS[form]
    given, state = mixed(name, 1, values, others)
    exact = exactly(paper, given, state)
    timeless = MAKERS[name]().parameters
    token = {key: tensor if key in timeless else tensor[:, 0] for key, tensor in given.items()}
    wide = torch.promote_types(torch.float32, torch.promote_types(others, state.dtype))
    output, final = form(**token, state=state)
    check_contract((output[:, None], final), exact, values, wide)


@pytest.mark.parametrize("form", [chunked_delta_rule, recurrent_delta_rule], ids=lambda form: form.__name__)
def test_keys_that_are_not_normalised_and_a_given_scale_round_once(form):
    given, state = mixed("delta_rule", 12, torch.bfloat16, torch.float32)
    given["key"] = (0.3 * given["key"].double() / given["key"].double().norm(dim=-1, keepdim=True)).bfloat16()
    options = {"scale": 0.3, "normalise": False}
    wide = {key: tensor.double() for key, tensor in given.items()}
    exact = papers.delta_rule(*list(wide.values())[:3], beta=wide["beta"], log_decay=wide["log_decay"],
                              initial_state=state.double(), **options)  # fmt: skip
    check_contract(form(**given, initial_state=state, **options), exact, torch.bfloat16, torch.float32)


def heads(*, queries: int = 24, keys: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    return (
        2 * torch.randn(2, queries, 4, 16).bfloat16(),
        torch.randn(2, keys, 2, 16).bfloat16(),
        torch.randn(2, keys, 2, 16).bfloat16(),
    )


ATTENTION: dict[str, Callable[..., Tensor]] = {
    "whole": attention,
    "by blocks": lambda *tensors, **options: block_sparse_attention(*tensors, block_size=7, **options),
    "window": lambda *tensors, **options: sliding_window_attention(*tensors, window=21, block_size=7, **options),
}


@pytest.mark.parametrize("form", ATTENTION)
@pytest.mark.parametrize("modified", [None, "cap", "slopes"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_rounds_once(form, modified, scale):
    """The scaled queries, the scores, what bends them, the probabilities and the sum stay in float32."""
    query, key, value = heads()
    slopes = torch.tensor([0.5, 0.1, 0.03, 0.01], dtype=torch.float64)
    score_mod = {None: None, "cap": masks.tanh_softcap(3.0), "slopes": masks.alibi(slopes)}[modified]
    distance = torch.tensor([[16 + i - j for j in range(40)] for i in range(24)])
    sees = (distance >= 0) & (distance < (21 if form == "window" else 64))
    extra: dict[str, Any] = {"cap": 3.0} if modified == "cap" else {}
    if modified == "slopes":
        extra["bias"] = (-slopes[:, None, None] * distance).expand(2, -1, -1, -1)
    exact = papers.attention(query, key, value, sees.expand(2, 4, -1, -1), scale=scale, **extra)
    actual = ATTENTION[form](query, key, value, score_mod=score_mod, scale=scale)
    assert actual.dtype == torch.bfloat16
    assert wrongly_rounded(actual, exact) <= MOVED


@pytest.mark.parametrize("gates", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("order", ["norm_before_gate", "gate_before_norm"])
@pytest.mark.parametrize("group_size", [None, 16])
def test_norms_round_once(gates, order, group_size):
    x, gate, weight = torch.randn(40, 64).bfloat16(), torch.randn(40, 64).to(gates), torch.randn(64).to(gates)
    exact = papers.rms_norm(x, weight, epsilon=1e-2, offset=1.0)
    actual = rms_norm(x, weight, epsilon=1e-2, offset=1.0)
    assert actual.dtype == torch.bfloat16
    assert wrongly_rounded(actual, exact) <= MOVED
    options = {"epsilon": 1e-2, "order": order, "group_size": group_size}
    actual = gated_rms_norm(x, gate, weight, **options)
    assert actual.dtype == torch.bfloat16
    assert wrongly_rounded(actual, papers.gated_rms_norm(x, gate, weight, **options)) <= MOVED
    unit = l2_normalise(x)
    assert unit.dtype == torch.float32
    expect("unit length", relative_error(unit, papers.l2_normalise(x)), 1e-6)


@pytest.mark.parametrize("last", [200, 300, 5000, 2**20 + 500, 2**25])
@pytest.mark.parametrize("table", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("integers", [torch.int64, torch.int32], ids=str)
def test_positions_and_angles_are_never_short(last, table, integers):
    """bfloat16 counts to 256, float32 to 2^24; and at 2^20 a float32 product of both is off by 0.06 radians."""
    x = torch.randn(1, 40, 3, 16).bfloat16()
    positions = torch.arange(last - 40, last, dtype=integers)
    frequencies = rotary_frequencies(16, theta=5e5).to(table)
    actual = apply_rotary(x, positions, frequencies)
    assert actual.dtype == torch.bfloat16
    assert wrongly_rounded(actual, papers.apply_rotary(x, positions, frequencies)) <= MOVED


def test_a_rotary_mixer_in_bfloat16_keeps_its_frequencies():
    """The frequencies are no weights: a module that is moved to bfloat16 turns by the same angles."""
    mixer = Attention(16, heads=2, key_heads=1, head_size=8, frequencies=rotary_frequencies(8, theta=1e4))
    x = torch.randn(1, 8, 16).bfloat16()
    short = mixer.bfloat16()(x, None, 300_000)[1].key
    wide = mixer.double()(x.double(), None, 300_000)[1].key
    assert relative_error(short, wide) < 0.02  # angles of rounded frequencies would be off by hundreds of radians
    model = from_config(config_of("llama"))
    assert model.bfloat16().layers[0].mixer.frequencies.dtype == torch.float64


def test_distances_of_linear_biases_are_never_short():
    """Scores of a short dtype, as another kernel may have them: the distance is not rounded to it first."""
    score_mod = masks.alibi(torch.tensor([1.0], dtype=torch.float64))
    zero = torch.zeros((), dtype=torch.int64)
    score = torch.full((1,), 1000.0).bfloat16()
    assert score_mod(score, zero, zero, torch.tensor([997]), torch.tensor([0])).item() == 3.0


class Probe(nn.Module):
    """A block that keeps what it is given."""

    def forward(self, x: Tensor, state: None, position: int) -> tuple[Tensor, None]:
        self.given = x
        return x, None


@pytest.mark.parametrize("rounds", [True, False])
def test_the_embedding_is_scaled_as_the_released_models_scale_it(rounds):
    """Gemma rounds √D to bfloat16 first (55.4 to 55.5); Falcon-H1 multiplies by the number itself, and rounds once."""
    probe = Probe()
    model = LanguageModel(
        50, 3072, [probe], RMSNorm(3072, 1e-6), tied=True, embedding_multiplier=3072**0.5, rounds_multiplier=rounds
    ).bfloat16()
    tokens = torch.arange(50)[None]
    model(tokens)
    multiplier = torch.tensor(3072**0.5).bfloat16().double() if rounds else 3072**0.5
    assert wrongly_rounded(probe.given, model.embed_tokens.weight[None].double() * multiplier) <= MOVED


def test_the_embedding_of_gemma_in_bfloat16_is_transformers():
    transformers = pytest.importorskip("transformers")
    config = config_of("gemma3_text")
    ours, reference = from_config(config).bfloat16(), transformers.AutoModelForCausalLM.from_config(config).bfloat16()
    ours.load_transformers(reference.state_dict())
    probe = Probe()
    ours.layers[0] = probe
    ours(torch.arange(61)[None])
    assert torch.equal(probe.given, reference.get_input_embeddings()(torch.arange(61)[None]))


def test_the_step_of_mamba_adds_its_bias_in_float32():
    """A projection of 8.03 and a bias of 0.004: in bfloat16 the bias would vanish."""
    mixer = Mamba1(8, inner=16, state_size=4, step_rank=2, taps=3, convolution_bias=True, bias=False, norm_epsilon=None)
    mixer = mixer.bfloat16()
    with torch.no_grad():
        mixer.dt_proj.bias.copy_(torch.linspace(0.001, 0.02, 16))
        mixer.dt_proj.weight.mul_(20)
    given = {}

    def catch(*args: Tensor, **kwargs: Tensor) -> tuple[Tensor, Tensor]:
        given.update(kwargs)
        return chunked_selective_scan(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(mixers, "chunked_selective_scan", catch)
        x = torch.randn(2, 9, 8).bfloat16()
        mixer(x, None, 0)
        u, _ = mixer.in_proj(x).chunk(2, dim=-1)
        low = mixer.x_proj(mixer.conv1d(u, None)[0])[..., :2]
        projected = functional.linear(low, mixer.dt_proj.weight)
    exact = functional.softplus(projected.double() + mixer.dt_proj.bias.double())
    assert given["dt"].dtype == torch.float32
    expect("Δ", relative_error(given["dt"], exact), 1e-6)


def test_equal_experts_with_normalised_weights_are_one_expert():
    """In bfloat16 too: the router's softmax, the choice and the shares of 1 are in float32."""
    mlp = SparseMLP(8, inner=6, shared_inner=6, experts=4, active=2, normalise=True).bfloat16()
    x = torch.randn(1, 200, 8).bfloat16()
    with torch.no_grad():
        for weights in mlp.experts.gate_up_proj, mlp.experts.down_proj:
            weights.copy_(weights[:1].clone().expand_as(weights))
        shared = torch.sigmoid(mlp.shared_expert_gate(x)) * mlp.shared_expert(x)
        exact = (shared.double() + mlp.experts(x[0], 0).double()[None]).double()
        expect("experts", relative_error(mlp(x), exact), 2.0**-7)
