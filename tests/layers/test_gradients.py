"""Gradients: against finite differences in float64, once and twice, and finite where naive forms give NaN."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from hybrid_ops.layers import chunks, masks
from hybrid_ops.layers.attention import attention, sliding_window_attention
from hybrid_ops.layers.convolution import causal_convolution
from hybrid_ops.layers.delta_rule import chunked_delta_rule, recurrent_delta_rule, step_delta_rule
from hybrid_ops.layers.norms import gated_rms_norm, l2_normalise, rms_norm
from hybrid_ops.layers.rotary import apply_rotary, rotary_frequencies
from hybrid_ops.layers.selective_scan import chunked_selective_scan, recurrent_selective_scan
from hybrid_ops.layers.ssd import chunked_ssd, recurrent_ssd
from tests.layers.checks import expect, relative_error
from tests.layers.inputs import MAKERS, Inputs

FORMS = {
    "delta_rule": (chunked_delta_rule, recurrent_delta_rule),
    "ssd": (chunked_ssd, recurrent_ssd),
    "selective_scan": (chunked_selective_scan, recurrent_selective_scan),
}


def inside(inputs: Inputs) -> Inputs:
    """Gates moved away from the ends of their ranges, so that finite differences stay inside."""
    bounds = {"beta": (0.05, 1.95), "log_decay": (-4.0, -0.05), "dt": (0.05, 4.0), "A": (-3.0, -0.05)}

    def move(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.clamp(*bounds[name]) if name in bounds else tensor for name, tensor in tensors.items()}

    return Inputs(move(inputs.sequences), move(inputs.parameters), inputs.state)


def as_function(form, inputs: Inputs, **options):
    """A function of all tensors, state included, and those tensors."""
    inputs = inside(inputs)
    named = inputs.sequences | inputs.parameters | {"initial_state": inputs.state}
    tensors = [tensor.clone().requires_grad_() for tensor in named.values()]
    return (lambda *values: form(**dict(zip(named, values, strict=True)), **options)), tensors


@pytest.mark.parametrize("name", sorted(FORMS))
@pytest.mark.parametrize("form", [0, 1], ids=["chunked", "recurrent"])
def test_recurrent_layers_once_and_twice(name, form):
    options = {"chunk_size": 3} if form == 0 else {}
    function, tensors = as_function(FORMS[name][form], MAKERS[name](batch=1, tokens=5), **options)
    assert gradcheck(function, tensors)
    assert gradgradcheck(function, tensors, fast_mode=True)


def test_merged_blocks_of_the_inverse(monkeypatch):
    monkeypatch.setattr(chunks, "LEAF_SIZE", 2)
    matrix = (torch.randn(2, 7, 7, dtype=torch.float64) * 0.5).requires_grad_()
    assert gradcheck(chunks.unit_lower_inverse, matrix)
    assert gradgradcheck(chunks.unit_lower_inverse, matrix)
    inputs = MAKERS["delta_rule"](batch=1, tokens=7, heads=1, group=1, key_regime="near-identical")
    function, tensors = as_function(chunked_delta_rule, inputs, chunk_size=7)
    assert gradcheck(function, tensors)


def test_decoding_steps_and_packed_sequences():
    inputs = inside(MAKERS["delta_rule"](batch=2, tokens=1, heads=1, group=2))
    token = [inputs.sequences[name][:, 0] for name in ("query", "key", "value", "beta", "log_decay")]
    tensors = [tensor.clone().requires_grad_() for tensor in [*token, inputs.state]]
    assert gradcheck(lambda q, k, v, b, g, s: step_delta_rule(q, k, v, beta=b, log_decay=g, state=s), tensors)
    packed = MAKERS["ssd"](batch=1, tokens=5)
    packed = packed.with_state(torch.randn(2, *packed.state.shape[1:], dtype=torch.float64))
    function, tensors = as_function(chunked_ssd, packed, chunk_size=2, cu_seqlens=torch.tensor([0, 2, 5]))
    assert gradcheck(function, tensors, fast_mode=True)


@pytest.mark.parametrize(
    "mods", [(masks.causal, None), (masks.prefix_lm(2), masks.tanh_softcap(2.0))], ids=["causal", "prefix-lm, softcap"]
)
def test_attention(mods):
    heads = [torch.randn(1, 4, n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 2, 2)]
    assert gradcheck(lambda *h: attention(*h, mask_mod=mods[0], score_mod=mods[1]), heads)
    assert gradgradcheck(lambda *h: attention(*h, mask_mod=mods[0], score_mod=mods[1]), heads, fast_mode=True)
    assert gradcheck(lambda *h: sliding_window_attention(*h, window=2, block_size=2), heads)
    assert gradgradcheck(lambda *h: sliding_window_attention(*h, window=2, block_size=2), heads, fast_mode=True)


def test_convolution_norms_and_rotary():
    x, gate = (torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    state = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)

    def gated(x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        return gated_rms_norm(x, gate, weight, epsilon=1e-5, order="gate_before_norm", group_size=3)

    for function, tensors in [
        (lambda x, w: rms_norm(x, w, epsilon=1e-5, offset=1.0), (x, weight)),
        (gated, (x, gate, weight)),
        (l2_normalise, (x,)),
        (lambda x, w, b, s: causal_convolution(x, w, b, activation="silu", initial_state=s), (x, taps, weight, state)),
        (lambda x: apply_rotary(x[..., None, :], torch.arange(4), rotary_frequencies(4, theta=10.0)), (x,)),
    ]:
        assert gradcheck(function, tensors)
        assert gradgradcheck(function, tensors, fast_mode=True)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_chunked_and_recurrent_gradients_agree(name):
    """Across chunks of 32 with merged inverses, where finite differences would take too long."""
    inputs = MAKERS[name](batch=1, tokens=70, seed=3)
    gradients = []
    for form, options in zip(FORMS[name], ({"chunk_size": 32}, {}), strict=True):
        function, tensors = as_function(form, inputs, **options)
        output, state = function(*tensors)
        gradients.append(torch.autograd.grad(output.square().sum() + state.square().sum(), tensors))
    for chunked, recurrent in zip(*gradients, strict=True):
        expect("gradient", relative_error(chunked, recurrent), 1e-11)  # ten times the forward's bound: twice the sums


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("decay", ["none", "strong", "resets"])
def test_gradients_of_hard_inputs_are_finite(decay, dtype):
    """Zero keys, β of 0 and 2, total decay: exp().tril() and x / norm would give NaN."""
    inputs = MAKERS["delta_rule"](tokens=40, key_regime="some-zero", strength_regime="edges", decay_regime=decay)
    inputs = inputs.to(dtype)
    tensors = [tensor.requires_grad_() for tensor in inputs.sequences.values()]
    output, state = chunked_delta_rule(**inputs.sequences, initial_state=inputs.state, chunk_size=32)
    (output.float().sum() + state.float().sum()).backward()
    assert all(bool(tensor.grad.isfinite().all()) for tensor in tensors)
