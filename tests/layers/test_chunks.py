"""The parts that chunked forms are made of, where naive versions lose their accuracy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.layers.chunks import from_chunks, into_chunks, segment_decays, segment_sums, unit_lower_inverse
from hybrid_ops.layers.norms import l2_normalise
from tests.layers.checks import FLOAT64


@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([1.0, 10.0, 100.0]))
def test_segment_sums_are_sums_over_segments(seed, size, strength):
    g = -strength * torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sums = segment_sums(g)
    for i in range(size):
        for j in range(size):
            if j > i:
                assert sums[i, j] == 0
            else:
                assert sums[i, j].item() == pytest.approx(g[j + 1 : i + 1].sum().item(), rel=1e-12, abs=0)


def test_decays_and_their_gradients_are_zero_above_the_diagonal():
    g = (-1e4 * torch.rand(2, 20, dtype=torch.float64)).requires_grad_()
    decays = segment_decays(g)
    assert torch.equal(decays, segment_sums(g).exp() * torch.ones(20, 20).tril())
    decays.sum().backward()
    assert bool(g.grad.isfinite().all())


@pytest.mark.parametrize("strength", [1, 10, 100])
def test_segment_sums_do_not_cancel(strength):
    """In float32 the decay keeps seven digits at any strength; a difference of cumulative sums does not."""
    g = -strength * torch.rand(8, 64)
    exact = segment_sums(g.double())
    below = torch.ones(64, 64).tril(-1).bool()
    error = ((segment_sums(g) - exact) / exact)[:, below].abs().max().item()
    assert error < 2e-6  # at most 64 additions of one sign: 64 · 2⁻²⁴ = 4e-6 at worst, 5e-7 in practice
    sums = g.cumsum(-1)
    difference = sums[:, :, None] - sums[:, None, :]
    assert ((difference - exact) / exact)[:, below].abs().max().item() > 10 * error


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 31, 32, 33, 64, 100])
@given(
    seed=st.integers(0, 2**31),
    strength=st.sampled_from([0.5, 1.0, 1.9, 2.0]),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
)
def test_inverse_times_matrix_is_identity(size, seed, strength, spread):
    """Also for near-identical keys and β up to 2, where series for the inverse blow up."""
    generator = torch.Generator().manual_seed(seed)
    base, noise = torch.randn(1, 8, generator=generator), torch.randn(size, 8, generator=generator)
    keys = l2_normalise((base + spread * noise).double())
    matrix = (strength * keys @ keys.T).tril(-1)
    identity = torch.eye(size, dtype=torch.float64)
    inverse = unit_lower_inverse(matrix)
    # Rounding is relative to the size of the terms that cancel to the identity.
    scale = (inverse.abs() @ (identity + matrix).abs()).max().item()
    assert (inverse @ (identity + matrix) - identity).abs().max().item() <= FLOAT64 * scale
    assert torch.equal(inverse.triu(1), torch.zeros_like(inverse))


def test_inverse_is_accurate_where_a_series_is_not():
    """64 near-identical keys, β = 1.9, float32: forward substitution keeps six digits, a Neumann series has none."""
    keys = l2_normalise(torch.randn(1, 64) + 1e-3 * torch.randn(64, 64))
    matrix = (1.9 * keys @ keys.T).tril(-1)
    exact = torch.linalg.inv(torch.eye(64, dtype=torch.float64) + matrix.double())
    error = (unit_lower_inverse(matrix) - exact).norm() / exact.norm()
    assert error < 1e-5
    series, power = torch.eye(64) - matrix, matrix @ matrix
    for _ in range(5):  # (I − A)(I + A²)(I + A⁴)…, exact in exact arithmetic
        series, power = series + series @ power, power @ power
    assert not (series - exact).norm() / exact.norm() < 1.0


def test_the_inverse_reads_only_below_the_diagonal():
    matrix = torch.randn(3, 20, 20, dtype=torch.float64)
    assert torch.equal(unit_lower_inverse(matrix), unit_lower_inverse(matrix.tril(-1)))


@given(st.integers(0, 30), st.integers(1, 12))
def test_chunks_come_apart_and_together(tokens, size):
    x = torch.randn(2, tokens, 3, 4)
    chunks = into_chunks(x, size)
    assert chunks.shape == (6, -(-tokens // size), size, 4)
    assert torch.equal(from_chunks(chunks, 2, tokens), x)
