"""Norms and rotary embedding against their formulas written out with Python numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.layers.norms import gated_rms_norm, l2_normalise, rms_norm
from hybrid_ops.layers.rotary import apply_rotary, rotary_frequencies
from tests.layers.checks import BFLOAT16, FLOAT32, FLOAT64, expect, relative_error

vectors = st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=8)


def silu(x: float) -> float:
    return x / (1 + math.exp(-x)) if x > -700 else 0.0


@given(vectors, st.sampled_from([0.0, 1.0]))
def test_rms_norm_is_its_formula(values, offset):
    weight = [0.5 + 0.1 * i for i in range(len(values))]
    root = math.sqrt(sum(v * v for v in values) / len(values) + 1e-5)
    expected = torch.tensor([v / root * (offset + w) for v, w in zip(values, weight, strict=True)])
    x, w = torch.tensor(values, dtype=torch.float64), torch.tensor(weight, dtype=torch.float64)
    torch.testing.assert_close(rms_norm(x, w, epsilon=1e-5, offset=offset), expected.double(), rtol=1e-6, atol=1e-9)


@given(vectors, st.data())
def test_gated_norm_orders_are_their_formulas(values, data):
    gates = data.draw(st.lists(st.floats(-5, 5), min_size=len(values), max_size=len(values)))
    x, z = torch.tensor(values, dtype=torch.float64), torch.tensor(gates, dtype=torch.float64)
    opened = [v * silu(g) for v, g in zip(values, gates, strict=True)]
    before = math.sqrt(sum(v * v for v in opened) / len(values) + 1e-5)
    after = math.sqrt(sum(v * v for v in values) / len(values) + 1e-5)
    gate_first = gated_rms_norm(x, z, None, epsilon=1e-5, order="gate_before_norm")
    norm_first = gated_rms_norm(x, z, None, epsilon=1e-5, order="norm_before_gate")
    torch.testing.assert_close(gate_first, torch.tensor([v / before for v in opened], dtype=torch.float64))
    torch.testing.assert_close(norm_first, torch.tensor([v / after for v in opened], dtype=torch.float64))


def test_a_grouped_norm_is_a_norm_in_each_group():
    x, z = torch.randn(3, 12, dtype=torch.float64), torch.randn(3, 12, dtype=torch.float64)
    weight = torch.randn(12, dtype=torch.float64)
    grouped = gated_rms_norm(x, z, weight, epsilon=1e-5, order="gate_before_norm", group_size=4)
    parts = [
        gated_rms_norm(x[:, i : i + 4], z[:, i : i + 4], weight[i : i + 4], epsilon=1e-5, order="gate_before_norm")
        for i in (0, 4, 8)
    ]
    expect("grouped", relative_error(grouped, torch.cat(parts, dim=-1)), FLOAT64)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, FLOAT32), (torch.bfloat16, BFLOAT16)], ids=str)
def test_lower_precision_costs_only_its_rounding(dtype, bound):
    x, z, weight = (torch.randn(5, 64).to(dtype) for _ in range(3))
    weight = weight[0]
    for low, exact in [
        (rms_norm(x, weight, epsilon=1e-5), rms_norm(x.double(), weight.double(), epsilon=1e-5)),
        (
            gated_rms_norm(x, z, weight, epsilon=1e-5, order="norm_before_gate"),
            gated_rms_norm(x.double(), z.double(), weight.double(), epsilon=1e-5, order="norm_before_gate"),
        ),
    ]:
        assert low.dtype == dtype
        expect(str(dtype), relative_error(low, exact), bound)


def test_l2_normalise_is_finite_at_zero_and_unit_elsewhere():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    y = l2_normalise(x)
    torch.testing.assert_close(y.norm(dim=-1), torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=1e-6, atol=0)
    y.sum().backward()
    assert x.grad is not None and x.grad.abs().max() <= 1e3  # 1/√ε, where dividing by the norm gives NaN


@given(st.integers(0, 4096), st.integers(0, 4096), st.integers(0, 2**31))
def test_rotated_scores_depend_on_the_distance_alone(query_position, key_position, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 1, 1, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    frequencies = rotary_frequencies(8, theta=1e4)

    def score(at_query: int, at_key: int) -> float:
        turned = [apply_rotary(x, torch.tensor([at]), frequencies) for x, at in ((q, at_query), (k, at_key))]
        return (turned[0] * turned[1]).sum().item()

    assert score(query_position, key_position) == pytest.approx(
        score(query_position + 777, key_position + 777), abs=1e-9
    )
    length = apply_rotary(q, torch.tensor([query_position]), frequencies).norm().item()
    assert length == pytest.approx(q.norm().item(), rel=1e-12)


def test_rotary_turns_pairs_half_a_head_apart_and_leaves_the_rest():
    x = torch.zeros(1, 1, 1, 6, dtype=torch.float64)
    x[..., 0], x[..., 5] = 1.0, 7.0
    turned = apply_rotary(x, torch.tensor([3]), rotary_frequencies(4, theta=100.0)).flatten().tolist()
    assert turned == pytest.approx([math.cos(3.0), 0, math.sin(3.0), 0, 0, 7.0])


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 8.0},
        {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ],
    ids=lambda scaling: scaling["rope_type"],
)
def test_frequencies_are_transformers(scaling):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=64, num_attention_heads=1, head_dim=64, rope_parameters={"rope_theta": 5e5, **scaling}
    )
    expected = LlamaRotaryEmbedding(config).inv_freq
    expect("frequencies", relative_error(rotary_frequencies(64, theta=5e5, scaling=scaling), expected), FLOAT32)
