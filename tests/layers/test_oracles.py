"""Agreement with independent implementations: transformers, flash-linear-attention's naive forms, vLLM's CPU kernels.

Oracles compute in float32 (or bfloat16), so the bound is theirs. Where one disagrees with the recurrence,
`test_oracle_faults` shows the fault.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from hybrid_ops.layers.convolution import causal_convolution, step_causal_convolution
from hybrid_ops.layers.delta_rule import chunked_delta_rule, recurrent_delta_rule, step_delta_rule
from hybrid_ops.layers.norms import l2_normalise
from hybrid_ops.layers.selective_scan import chunked_selective_scan, step_selective_scan
from hybrid_ops.layers.ssd import chunked_ssd, step_ssd
from tests.layers import inputs as make
from tests.layers import oracles
from tests.layers.checks import BFLOAT16, FLOAT32, agree, expect, relative_error

seeds = st.integers(0, 2**31)


@pytest.mark.parametrize("model", ["olmo_hybrid", "qwen3_next"])
@given(seed=seeds, tokens=make.LENGTHS, keys=st.sampled_from(["random", "near-identical", "some-zero"]))
def test_gated_delta_rule_of_transformers(model, seed, tokens, keys):
    module = oracles.transformers_model(model)
    inputs = make.delta_rule(seed, tokens=tokens, key_size=8, value_size=6, key_regime=keys).to(torch.float32)
    query, key, value, beta, log_decay = inputs.sequences.values()
    group = value.shape[2] // key.shape[2]
    heads = query.repeat_interleave(group, 2), key.repeat_interleave(group, 2), value
    options = {"g": log_decay, "beta": beta, "initial_state": inputs.state, "output_final_state": True}
    actual = chunked_delta_rule(**inputs.sequences, initial_state=inputs.state)
    scale = value.norm().item() / 8**0.5
    for name in ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"):
        theirs = oracles.plain(getattr(module, name))(*heads, **options, use_qk_l2norm_in_kernel=True)
        agree(name, actual, theirs, FLOAT32, scale)


@given(seed=seeds, chunks=st.integers(1, 3))
def test_gated_delta_rule_of_flash_linear_attention(seed, chunks):
    naive = oracles.fla_naive("gated_delta_rule")
    inputs = make.delta_rule(seed, tokens=32 * chunks, group=1, key_size=8, value_size=6).to(torch.float32)
    query, key, value, beta, log_decay = inputs.sequences.values()
    heads = l2_normalise(query), l2_normalise(key), value
    options = {"g": log_decay, "beta": beta, "initial_state": inputs.state, "output_final_state": True}
    actual = chunked_delta_rule(**inputs.sequences, initial_state=inputs.state)
    scale = value.norm().item() / 8**0.5
    agree("recurrent", actual, naive.naive_recurrent_gated_delta_rule(*heads, **options), FLOAT32, scale)
    agree("chunk", actual, naive.naive_chunk_gated_delta_rule(*heads, **options, chunk_size=32), FLOAT32, scale)


@given(seed=seeds)
def test_delta_rule_of_flash_linear_attention(seed):
    naive = oracles.fla_naive("delta_rule")
    query, key, value, beta, _ = (
        make.delta_rule(seed, tokens=64, group=1, key_size=8, value_size=6).to(torch.float32).sequences.values()
    )
    actual = chunked_delta_rule(query, key, value, beta=beta)
    heads_first = [x.transpose(1, 2) for x in (l2_normalise(query), l2_normalise(key), value, beta)]
    for oracle in (naive.delta_rule_recurrence, naive.delta_rule_chunkwise):
        output, state = oracle(*heads_first)
        agree(oracle.__name__, actual, (output.transpose(1, 2), state), FLOAT32, value.norm().item() / 8**0.5)


@given(seed=seeds, tokens=make.LENGTHS, decay=st.sampled_from(["none", "weak", "medium", "strong"]))
@pytest.mark.parametrize("model", ["mamba2", "nemotron_h", "falcon_h1"])
def test_ssd_of_transformers(model, seed, tokens, decay):
    scan = oracles.plain(oracles.transformers_model(model).mamba2_chunk_scan)
    inputs = make.ssd(seed, tokens=tokens, decay_regime=decay).to(torch.float32)
    x, B, C, dt = inputs.sequences.values()
    A, D = inputs.parameters.values()
    theirs = scan(x, dt, A, B, C, chunk_size=16, D=D, initial_states=inputs.state, return_final_states=True)
    actual = chunked_ssd(**inputs.sequences, A=A, D=D, initial_state=inputs.state)
    agree("mamba2_chunk_scan", actual, theirs, FLOAT32, x.norm().item())


@given(seed=seeds)
def test_ssd_step_of_transformers(seed):
    update = oracles.plain(oracles.transformers_model("mamba2").mamba2_selective_state_update)
    inputs = make.ssd(seed, tokens=1).to(torch.float32)
    x, B, C, dt = (tensor[:, 0] for tensor in inputs.sequences.values())
    A, D = inputs.parameters.values()
    state = inputs.state.clone()  # theirs is written in place
    theirs = update(state, x, *oracles.tied(dt, A, x, B), B, C, D[:, None].expand(x.shape[1:]))
    actual = step_ssd(x, B, C, dt=dt, A=A, D=D, state=inputs.state)
    agree("mamba2_selective_state_update", actual, (theirs, state), FLOAT32, x.norm().item())


@pytest.mark.parametrize("model", ["mamba", "falcon_mamba"])
@given(seed=seeds, tokens=make.LENGTHS)
def test_selective_scan_of_transformers(model, seed, tokens):
    module = oracles.transformers_model(model)
    inputs = make.selective_scan(seed, tokens=tokens).to(torch.float32)
    u, B, C, dt = (tensor.transpose(1, 2) for tensor in inputs.sequences.values())
    A, D = inputs.parameters.values()
    output, state = oracles.plain(module.mamba_selective_scan)(u, dt, A, B, C, D=D, return_last_state=True)
    actual = chunked_selective_scan(**inputs.sequences, A=A, D=D)
    agree("mamba_selective_scan", actual, (output.transpose(1, 2), state), FLOAT32, u.norm().item())

    state = inputs.state.clone()  # theirs is written in place
    update = oracles.plain(module.mamba_selective_state_update)
    output = update(state, u[..., 0], dt[..., 0], A, B[..., 0], C[..., 0], D=D)
    first = {name: tensor[:, 0] for name, tensor in inputs.sequences.items()}
    actual = step_selective_scan(**first, A=A, D=D, state=inputs.state)
    agree("mamba_selective_state_update", actual, (output, state), FLOAT32, u.norm().item())


@given(seed=seeds, tokens=make.LENGTHS, taps=st.integers(2, 5))
def test_convolution_of_transformers(seed, tokens, taps):
    module = oracles.transformers_model("mamba2")
    inputs = make.convolution(seed, tokens=tokens, taps=taps).to(torch.float32)
    x, (weight, bias) = inputs.sequences["x"], inputs.parameters.values()
    theirs = oracles.plain(module.causal_conv1d_fn)(x.transpose(1, 2), weight, bias, activation="silu")
    ours, state = causal_convolution(x, weight, bias, activation="silu")
    expect("causal_conv1d_fn", relative_error(ours, theirs.transpose(1, 2), x.norm().item()), FLOAT32)

    kept = functional.pad(state, (1, 0))  # transformers keeps one input more than the next token needs
    token = torch.randn_like(x[:, 0])
    theirs = oracles.plain(module.causal_conv1d_update)(token[..., None], kept, weight, bias, activation="silu")
    ours, state = step_causal_convolution(token, weight, bias, state=state, activation="silu")
    expect("causal_conv1d_update", relative_error(ours, theirs[..., 0], x.norm().item()), FLOAT32)
    assert torch.equal(kept[..., 1:], state)


def test_gated_delta_rule_of_vllm():
    """bfloat16 in and out, float32 state, packed with initial states picked from a pool."""
    kernels, size = oracles.vllm_kernels(), 64
    query, key = (torch.randn(1, 100, 2, size).bfloat16() for _ in range(2))
    value, beta = torch.randn(1, 100, 4, size).bfloat16(), torch.rand(1, 100, 4).bfloat16()
    log_decay = -torch.rand(1, 100, 4)
    pool, rows = torch.randn(5, 4, size, size) * 0.3, torch.tensor([3, 1, 4], dtype=torch.int32)
    boundaries = torch.tensor([0, 37, 38, 100], dtype=torch.int32)
    gates = {"log_decay": log_decay, "beta": beta}
    state = pool[rows.long()]
    ours = chunked_delta_rule(query, key, value, **gates, initial_state=state, cu_seqlens=boundaries)
    exact = recurrent_delta_rule(
        *(tensor.double() for tensor in (query, key, value)),
        beta=beta.double(),
        log_decay=log_decay.double(),
        initial_state=state.double(),
        cu_seqlens=boundaries,
    )
    expect("ours", relative_error(ours[0], exact[0]), BFLOAT16)
    theirs, _ = kernels.chunk_gated_delta_rule_cpu(
        query, key, value, log_decay, beta, pool, True, boundaries, False, True, rows, 1e-6
    )
    # The kernel also multiplies in bfloat16 inside a chunk: a few roundings instead of one.
    expect("vLLM, output", relative_error(theirs, exact[0]), 2 * BFLOAT16)
    expect("vLLM, state", relative_error(pool[rows.long()], exact[1]), 2 * BFLOAT16)


def test_gated_delta_rule_step_of_vllm():
    kernels, size = oracles.vllm_kernels(), 64
    query, key, value = (torch.randn(1, 2, heads, size).bfloat16() for heads in (2, 2, 4))
    A_log, dt_bias = torch.randn(4), torch.randn(4).bfloat16()
    a, b = torch.randn(2, 2, 4).bfloat16()
    pool = torch.randn(3, 4, size, size) * 0.3
    exact = step_delta_rule(
        *(tensor[0].double() for tensor in (query, key, value)),
        beta=torch.sigmoid(b.double()),
        log_decay=-A_log.double().exp() * functional.softplus(a.double() + dt_bias.double()),
        state=pool[1:].double(),
    )
    rows, boundaries = torch.tensor([1, 2], dtype=torch.int32), torch.tensor([0, 1, 2], dtype=torch.int32)
    theirs = kernels.fused_sigmoid_gating_delta_rule_update_cpu(
        A_log, dt_bias, query, key, value, a, b, pool, rows, boundaries, True, 1.0, 20.0
    )
    expect("vLLM, output", relative_error(theirs[:, 0], exact[0]), BFLOAT16)
    expect("vLLM, state", relative_error(pool[1:], exact[1]), BFLOAT16)


def test_ssd_of_vllm():
    """float32, packed, with initial states: the chunked kernel, then the single-token kernel from its final state."""
    kernels = oracles.vllm_kernels()
    inputs = make.ssd(1, batch=1, tokens=70, group=3, head_size=8, state_size=16).to(torch.float32)
    boundaries = torch.tensor([0, 33, 70], dtype=torch.int32)
    state = torch.randn(2, *inputs.state.shape[1:])
    ours = chunked_ssd(**inputs.sequences, **inputs.parameters, initial_state=state, cu_seqlens=boundaries)
    x, B, C, dt = (tensor[0] for tensor in inputs.sequences.values())
    A, D = inputs.parameters.values()
    output, final = torch.empty_like(x), state.clone()
    kernels.mamba_chunk_scan_fwd_cpu(output, final, x, dt, A, B, C, D, None, boundaries)
    agree("mamba_chunk_scan_fwd_cpu", ours, (output[None], final), FLOAT32, 0.0)

    x, B, C, dt = x[:2], B[:2], C[:2], dt[:2]
    exact = step_ssd(x, B, C, dt=dt, A=A, D=D, state=final.clone())
    output = oracles.vllm_step(final, x, *oracles.tied(dt, A, x, B), B, C, D[:, None].expand(x.shape[1:]))
    agree("selective_state_update_cpu", (output, final), exact, FLOAT32, 0.0)
