"""Where oracles are wrong: each test shows the fault beside our result and the float64 recurrence.

A test here fails when its oracle is repaired; then it can go, and its row in docs/layers.md with it.
"""

import pytest
import torch
from torch import Tensor

from hybrid_ops.layers.delta_rule import chunked_delta_rule, recurrent_delta_rule
from hybrid_ops.layers.language_model import from_config
from hybrid_ops.layers.norms import gated_rms_norm
from hybrid_ops.layers.selective_scan import step_selective_scan
from tests.layers import inputs as make
from tests.layers import oracles
from tests.layers.checks import FLOAT32, expect, relative_error

transformers = pytest.importorskip("transformers")


def test_transformers_falcon_h1_norm_squeezes_a_sequence_of_one():
    norm = oracles.transformers_model("falcon_h1").FalconH1RMSNormGated(8)
    x, gate = torch.randn(2, 1, 8), torch.randn(2, 1, 8)
    assert norm(x, gate).shape == (2, 2, 8)
    assert gated_rms_norm(x, gate, norm.weight, epsilon=1e-6, order="norm_before_gate").shape == (2, 1, 8)


def limited_config(kind: str):
    """A model whose time steps meet the limits that its configuration sets."""
    common = {"vocab_size": 32, "hidden_size": 16, "chunk_size": 8}
    if kind == "mamba2":
        sizes = {"num_heads": 4, "head_dim": 8, "n_groups": 1, "state_size": 4, "num_hidden_layers": 2}
        return transformers.Mamba2Config(**common, **sizes, time_step_limit=(2.0, 3.0))
    sizes = {"mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 1, "ssm_state_size": 4}
    others = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 16}
    layers = ["linear_attention", "full_attention"]  # its cache needs one attention layer
    return transformers.NemotronHConfig(**common, **sizes, **others, layers_block_type=layers, time_step_min=2.0)


@pytest.mark.parametrize("kind", ["mamba2", "nemotron_h"])
def test_transformers_decoding_ignores_the_limits_of_the_time_step(kind):
    """The chunked form clamps Δ, the step form does not: one model gives two answers for one token."""
    config = limited_config(kind)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    tokens = torch.randint(32, (1, 6))
    ours = from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        ours.load_transformers(model.state_dict())
        whole = model(tokens, use_cache=False).logits[:, -1]
        before = model(tokens[:, :-1], use_cache=True)
        name = "cache_params" if kind == "mamba2" else "past_key_values"
        step = model(tokens[:, -1:], use_cache=True, **{name: before[name]}).logits[:, -1]
        assert relative_error(step, whole) > 0.01

        expect("our prefill", relative_error(ours(tokens)[0][:, -1], whole), FLOAT32)
        _, cache = ours(tokens[:, :-1])
        expect("our decoding", relative_error(ours(tokens[:, -1:], cache)[0][:, -1], whole), FLOAT32)


def test_transformers_olmo_hybrid_without_rope_gets_rope():
    """The released 7B has no rotary embedding, which its configuration says with null; the class makes it θ = 1e4."""
    config = transformers.OlmoHybridConfig(rope_parameters=None)
    assert config.rope_parameters["rope_theta"] == 1e4


def test_transformers_nemotron_h_does_not_tie_its_head():
    """`tie_word_embeddings` is true, and there are two matrices."""
    config = limited_config("nemotron_h")
    config.tie_word_embeddings = True
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    ours = from_config(config)
    assert ours.lm_head.weight is ours.embed_tokens.weight


def test_transformers_gemma_3_does_not_bend_its_scores():
    """`attn_logit_softcapping` is kept but not handed to attention, which takes it where a caller gives it by name."""
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 16}
    config = transformers.Gemma3TextConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, attn_logit_softcapping=0.1, query_pre_attn_scalar=1, **sizes
    )
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    ours, tokens = from_config(config), torch.arange(12)[None]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        ours.load_transformers(model.state_dict())
        bent = model(tokens, softcap=0.1).logits
        assert relative_error(model(tokens).logits, bent) > 0.01
        expect("ours", relative_error(ours(tokens)[0], bent), 10 * FLOAT32)


def test_transformers_chunked_delta_rule_loses_digits_after_strong_decay():
    """It subtracts cumulative sums: after strong decay the small decays that follow drown in the large sum."""
    inputs = make.delta_rule(5, batch=1, tokens=64, group=1, key_size=16, value_size=16, strength_regime="below-one")
    query, key, value, beta, _ = inputs.to(torch.float32).sequences.values()
    log_decay = torch.where(torch.arange(64) < 48, -200.0, -0.1).view(1, 64, 1).expand(1, 64, 2).contiguous()
    exact, _ = recurrent_delta_rule(
        query.double(), key.double(), value.double(), beta=beta.double(), log_decay=log_decay.double()
    )
    chunked = oracles.plain(oracles.transformers_model("olmo_hybrid").torch_chunk_gated_delta_rule)
    theirs, _ = chunked(query, key, value, g=log_decay, beta=beta, use_qk_l2norm_in_kernel=True)
    ours, _ = chunked_delta_rule(query, key, value, beta=beta, log_decay=log_decay)
    expect("ours", relative_error(ours, exact), 1e-6)
    assert relative_error(theirs, exact) > 1e-5


def test_vllm_single_token_kernel_reads_one_rate_and_step_a_head():
    """Mamba-1 has a rate for each channel and state, and a step for each channel; the CPU kernel, made for Mamba-2,
    reads the first of each head, so that a Mamba-1 token decoded with it is wrong by tens of percent."""
    inputs = make.selective_scan(2, tokens=1, channels=8, state_size=16).to(torch.float32)
    u, B, C, dt = (tensor[:, 0] for tensor in inputs.sequences.values())
    A, D = inputs.parameters.values()

    def theirs(dt: Tensor, A: Tensor, D: Tensor) -> Tensor:
        state = inputs.state.clone()[:, None]  # one head of all channels
        return oracles.vllm_step(state, u[:, None], dt[:, None], A[None], B[:, None], C[:, None], D[None])[:, 0]

    def exact(dt: Tensor, A: Tensor, D: Tensor) -> Tensor:
        arguments = (tensor.double() for tensor in (u, B, C))
        gates = {"dt": dt.double(), "A": A.double(), "D": D.double()}
        return step_selective_scan(*arguments, **gates, state=inputs.state.double())[0]

    assert relative_error(theirs(dt, A, D), exact(dt, A, D)) > 0.1
    one = (tensor.contiguous() for tensor in (dt[:, :1].expand_as(dt), A[:1, :1].expand_as(A), D[:1].expand_as(D)))
    dt, A, D = one
    expect("with one rate and step the kernel is right", relative_error(theirs(dt, A, D), exact(dt, A, D)), FLOAT32)
