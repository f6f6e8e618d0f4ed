"""State that is handed over: never written to by who reads it, never larger than needed, and no end for gradients."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hybrid_ops.layers.blocks import GatedMLP, ParallelBlock, SlidingWindowHistoryBlock
from hybrid_ops.layers.convolution import causal_convolution
from hybrid_ops.layers.delta_rule import chunked_delta_rule, recurrent_delta_rule
from hybrid_ops.layers.language_model import from_config
from hybrid_ops.layers.mixers import (
    Attention,
    AttentionState,
    DeltaNetSizes,
    GatedRMSNorm,
    Mamba1,
    Mamba2,
    OlmoGatedDeltaNet,
    Qwen35GatedDeltaNet,
    QwenGatedDeltaNet,
    RecurrentState,
)
from hybrid_ops.layers.rotary import rotary_frequencies
from hybrid_ops.layers.selective_scan import chunked_selective_scan, recurrent_selective_scan
from hybrid_ops.layers.ssd import chunked_ssd, recurrent_ssd
from tests.layers.checks import expect, relative_error, run
from tests.layers.configurations import KINDS, build
from tests.layers.inputs import MAKERS, examples

WIDTH, WINDOW, TAPS = 12, 4, 3
SIZES = DeltaNetSizes(WIDTH, key_heads=1, value_heads=2, key_size=4, value_size=3, taps=TAPS)
HEADS = {"heads": 2, "key_heads": 1, "head_size": 6}


def mamba2(norm: GatedRMSNorm | None = None) -> Mamba2:
    return Mamba2(
        WIDTH, heads=2, head_size=6, groups=1, state_size=4, taps=TAPS, convolution_bias=True, bias=True,
        step_limits=(0.0, 5.0), norm=norm,
    )  # fmt: skip


def mamba1(norm_epsilon: float | None) -> Mamba1:
    return Mamba1(
        WIDTH, inner=16, state_size=4, step_rank=2, taps=TAPS, convolution_bias=True, bias=True,
        norm_epsilon=norm_epsilon,
    )  # fmt: skip


def history() -> SlidingWindowHistoryBlock:
    return SlidingWindowHistoryBlock(
        WIDTH, **HEADS, window=WINDOW, frequencies=rotary_frequencies(6, theta=100.0), state_size=4, inner=16
    )


MIXERS = {
    "attention": lambda: Attention(WIDTH, **HEADS, frequencies=rotary_frequencies(6, theta=100.0), bias=True),
    "attention, gate and norms": lambda: Attention(WIDTH, **HEADS, norm="head", norm_offset=1.0, output_gate=True),
    "attention, softcap": lambda: Attention(WIDTH, **HEADS, norm="full", softcap=2.0, scale=0.7),
    "window": lambda: Attention(WIDTH, **HEADS, window=WINDOW, frequencies=rotary_frequencies(4, theta=100.0)),
    "window of one": lambda: Attention(WIDTH, **HEADS, window=1),
    "OLMo's delta rule": lambda: OlmoGatedDeltaNet(SIZES, double_beta=True),
    "Qwen3-Next's delta rule": lambda: QwenGatedDeltaNet(SIZES, epsilon=1e-6),
    "Qwen3.5's delta rule": lambda: Qwen35GatedDeltaNet(SIZES, epsilon=1e-6),
    "Mamba": lambda: mamba1(None),
    "Falcon-Mamba": lambda: mamba1(1e-6),
    "Mamba-2": lambda: mamba2(GatedRMSNorm(12, 1e-5, "gate_before_norm")),
    "Mamba-2, bare gate": lambda: mamba2(),
    "parallel block": lambda: ParallelBlock(
        WIDTH, Attention(WIDTH, **HEADS), mamba2(), GatedMLP(WIDTH, 16), epsilon=1e-5
    ),
    "history block": history,
}
every_mixer = pytest.mark.parametrize("name", MIXERS)


def made(name: str) -> nn.Module:
    torch.manual_seed(1)
    return MIXERS[name]().double()


def tensors_of(state: Any) -> Iterator[Tensor]:
    """All tensors of a state, however nested."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, tuple):
        for part in state:
            yield from tensors_of(part)


@every_mixer
@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_mixer_does_not_write_to_the_state_it_is_given(name, tokens, gradients):
    mixer = made(name)
    with torch.set_grad_enabled(gradients):
        _, state = mixer(torch.randn(2, 6, WIDTH, dtype=torch.float64), None, 0)
        before = [tensor.clone() for tensor in tensors_of(state)]
        x = torch.randn(2, tokens, WIDTH, dtype=torch.float64)
        given = x.clone()
        first, _ = mixer(x, state, 6)
        assert all(torch.equal(now, then) for now, then in zip(tensors_of(state), before, strict=True))
        assert torch.equal(x, given)
        again, _ = mixer(x, state, 6)  # so a caller may go on from one state in two ways
    assert torch.equal(first, again)


@every_mixer
def test_a_state_is_as_large_as_what_a_later_token_needs(name):
    mixer, state, total = made(name), None, 0

    def check(state: Any) -> None:
        if isinstance(state, AttentionState):
            window = {"window": WINDOW, "window of one": 1, "history block": WINDOW}.get(name)
            kept = total if window is None else min(total, window - 1)
            assert (state.key.shape[1], state.value.shape[1]) == (kept, kept)
        elif isinstance(state, RecurrentState):
            assert state.convolution.shape[2] == (3 if name == "history block" else TAPS - 1)
        else:
            for part in state:
                check(part)

    for tokens in (1, 1, 1, 5, 1, 2, 1):
        _, state = mixer(torch.randn(2, tokens, WIDTH, dtype=torch.float64), state, total)
        total += tokens
        check(state)


@every_mixer
@pytest.mark.parametrize("parts", [(5, 5), (1, 9), (9, 1), (3, 1, 1, 5)], ids=str)
def test_gradients_of_a_mixer_go_through_the_state(name, parts):
    """A loss behind a boundary has the gradients of one pass: for the tokens before it, and for the weights."""
    mixer = made(name)
    x = torch.randn(2, 10, WIDTH, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, parts[-1], WIDTH, dtype=torch.float64)
    weights = [x, *mixer.parameters()]
    whole, _ = mixer(x, None, 0)
    expected = torch.autograd.grad((whole[:, -parts[-1] :] * target).sum(), weights, allow_unused=True)
    state, position = None, 0
    for part in x.split(parts, dim=1):
        y, state = mixer(part, state, position)
        position += part.shape[1]
    actual = torch.autograd.grad((y * target).sum(), weights, allow_unused=True)
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            expect("gradient", relative_error(ours, theirs, 1e-6), 1e-10)
    reach = 0 if name == "window of one" else 1
    assert expected[0][:, : -parts[-1]].abs().sum() > 0 or reach == 0


FORMS = {
    "delta_rule": (chunked_delta_rule, recurrent_delta_rule),
    "ssd": (chunked_ssd, recurrent_ssd),
    "selective_scan": (chunked_selective_scan, recurrent_selective_scan),
    "convolution": (causal_convolution,),
}


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in FORMS.items() for form in forms])
def test_gradients_of_a_function_go_through_the_state_and_into_packed_ones(name, form):
    """Two calls that hand a state over have the gradients of one; packed sequences those of each alone."""
    inputs = MAKERS[name](batch=1, tokens=40)
    tensors = {key: tensor.clone().requires_grad_() for key, tensor in inputs.sequences.items()}
    state = inputs.state.clone().requires_grad_()
    leaves = [*tensors.values(), state]

    def part_of(cut: slice, start: Tensor, **options: Tensor) -> tuple[Tensor, Tensor]:
        part = {key: tensor[:, cut] for key, tensor in tensors.items()}
        return form(**part, **inputs.parameters, initial_state=start, **options)

    def gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)

    output, final = part_of(slice(0, 40), state)
    expected = gradients(output[:, 25:].square().sum() + final.square().sum())
    _, between = part_of(slice(0, 25), state)
    output, final = part_of(slice(25, 40), between)
    actual = gradients(output.square().sum() + final.square().sum())
    for ours, theirs in zip(actual, expected, strict=True):
        expect("gradient through a state", relative_error(ours, theirs), 1e-10)

    alone = [part_of(slice(0, 25), state), part_of(slice(25, 40), state)]
    loss = sum((output.square().sum() + final.square().sum() for output, final in alone), start=torch.zeros(()))
    expected = gradients(loss)
    output, final = part_of(slice(0, 40), torch.cat([state, state]), cu_seqlens=torch.tensor([0, 25, 40]))
    actual = gradients(output.square().sum() + final.square().sum())
    for ours, theirs in zip(actual, expected, strict=True):
        expect("gradient of packed sequences", relative_error(ours, theirs), 1e-10)


@pytest.mark.parametrize("kind", sorted(KINDS))
@examples(3)
@given(data=st.data())
def test_a_model_keeps_the_callers_cache_and_its_gradients(kind, data):
    """Decoding twice from one cache gives the same, and a loss on the last tokens reaches the first embeddings."""
    fields = data.draw(KINDS[kind])
    torch.manual_seed(0)
    model = from_config(build(kind, fields)).double()
    tokens = torch.randint(fields["vocab_size"], (2, 9))
    _, cache = model(tokens[:, :5])
    before = [tensor.clone() for tensor in tensors_of(cache.states)]
    for count in (1, 3, 1):
        model(tokens[:, 5 : 5 + count], cache)
    assert all(torch.equal(now, then) for now, then in zip(tensors_of(cache.states), before, strict=True))
    assert cache.position == 5
    window = fields.get("sliding_window")
    for state in cache.states:
        for part in state if isinstance(state, tuple) and not hasattr(state, "_fields") else (state,):
            if isinstance(part, AttentionState):
                assert part.key.shape[1] in {5, 5 if window is None else min(5, window - 1)}

    weights = list(model.parameters())
    whole, _ = model(tokens)
    expected = torch.autograd.grad(whole[:, 5:].square().sum(), weights, allow_unused=True)
    parts = model(tokens[:, 5:], model(tokens[:, :5])[1])[0]
    actual = torch.autograd.grad(parts.square().sum(), weights, allow_unused=True)
    for ours, theirs in zip(actual, expected, strict=True):
        if theirs is not None:
            expect("gradient", relative_error(ours, theirs, 1e-6), 1e-9)


@pytest.mark.parametrize("name", ["ssd", "selective_scan"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_an_infinite_rate_forgets_in_every_form_and_has_finite_gradients(name, dtype):
    """And a step of 0, in which no time passes, forgets nothing even then. (Its gradient is infinite in truth.)"""
    inputs = MAKERS[name](tokens=40).to(dtype)
    rate = inputs.parameters["A"]
    rate.copy_(torch.where(torch.arange(rate.shape[-1]) % 2 == 0, -torch.inf, rate))
    bound = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.02}[dtype]
    chunked, recurrent = FORMS[name]
    outputs = [run(form, inputs) for form in (chunked, recurrent)]
    assert bool((inputs.sequences["dt"] == 0).any())
    expect("with steps of 0", relative_error(outputs[0][0], outputs[1][0]), bound)
    inputs.sequences["dt"].clamp_(min=1e-3)
    results = []
    for form in (chunked, recurrent):
        leaves = [tensor.clone().requires_grad_() for tensor in (*inputs.sequences.values(), rate, inputs.state)]
        named = dict(zip([*inputs.sequences, "A", "initial_state"], leaves, strict=True))
        output, final = form(**named, D=inputs.parameters["D"])
        gradients = torch.autograd.grad(output.float().square().sum() + final.square().sum(), leaves)
        assert all(bool(tensor.isfinite().all()) for tensor in (output, final, *gradients))
        results.append((output, final, gradients))
    expect("output", relative_error(results[0][0], results[1][0]), bound)
    for ours, theirs in zip(results[0][2], results[1][2], strict=True):
        expect("gradient", relative_error(ours, theirs), bound)
