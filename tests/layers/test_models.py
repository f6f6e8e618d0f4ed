"""Whole models against transformers, weights loaded by name: prefill, decoding with a cache, and prefill in parts."""

import pytest
import torch

from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import HybridAttentionConfig
from hybrid_ops.layers import mixers
from hybrid_ops.layers.blocks import Experts, SlidingWindowHistoryBlock
from hybrid_ops.layers.language_model import from_config
from hybrid_ops.layers.mixers import AttentionState, RecurrentState
from hybrid_ops.layers.rotary import rotary_frequencies
from tests.layers.checks import FLOAT32, FLOAT64, expect, relative_error
from tests.models.twins import transformers_config, twin_weights

transformers = pytest.importorskip("transformers")

ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
MLP = {"intermediate_size": 48}
DELTA_NET = {"linear_key_head_dim": 8, "linear_value_head_dim": 12, "linear_conv_kernel_dim": 4}
CONFIGS = {
    "llama": {**ATTENTION, **MLP, "num_hidden_layers": 2},
    "llama, long context": {
        **ATTENTION,
        **MLP,
        "num_hidden_layers": 2,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1e4,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "gemma3_text": {
        **ATTENTION,
        **MLP,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "num_hidden_layers": 3,
        "sliding_window": 5,
        "query_pre_attn_scalar": 11,
        "final_logit_softcapping": 4.0,
    },
    "mamba": {"num_hidden_layers": 2, "state_size": 4, "time_step_rank": 3},
    "falcon_mamba": {"num_hidden_layers": 2, "state_size": 4, "time_step_rank": 3, "tie_word_embeddings": False},
    "mamba2": {"num_hidden_layers": 2, "state_size": 6, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    "nemotron_h": {
        **ATTENTION,
        **MLP,
        "layers_block_type": ["linear_attention", "mlp", "linear_attention", "full_attention", "mlp"],  # M-M*-
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "ssm_state_size": 6,
        "chunk_size": 8,
        "time_step_min": 1e-9,  # its decoding has no lower limit: see test_oracle_faults
    },
    "falcon_h1": {
        **ATTENTION,
        **MLP,
        "num_hidden_layers": 2,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_n_groups": 2,
        "mamba_d_state": 6,
        "mamba_chunk_size": 8,
        "key_multiplier": 0.7,
        "embedding_multiplier": 1.3,
        "lm_head_multiplier": 0.6,
        "attention_in_multiplier": 0.9,
        "attention_out_multiplier": 1.2,
        "ssm_in_multiplier": 1.1,
        "ssm_out_multiplier": 0.8,
        "ssm_multipliers": [0.9, 1.1, 1.2, 0.8, 0.7],
        "mlp_multipliers": [1.2, 0.9],
    },
    "olmo_hybrid": {
        **ATTENTION,
        **MLP,
        **DELTA_NET,
        "num_hidden_layers": 4,  # three Gated DeltaNets, then attention
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    },
    "qwen3_5_text": {
        **ATTENTION,
        **MLP,
        **DELTA_NET,
        "num_hidden_layers": 4,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    },
    "qwen3_next": {
        **ATTENTION,
        **MLP,
        **DELTA_NET,
        "num_hidden_layers": 4,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "mlp_only_layers": [1],
    },
}
CONFIGS["falcon_h1, norm then gate"] = CONFIGS["falcon_h1"] | {"mamba_rms_norm": True, "mamba_norm_before_gate": True}
CONFIGS["falcon_h1, gate then norm"] = CONFIGS["falcon_h1"] | {"mamba_rms_norm": True, "mamba_norm_before_gate": False}

DEEP = 10 * FLOAT32
"""Several layers in float32 on both sides, each adding its rounding: ten times the bound of one layer."""


def config_of(case: str):
    kind = case.split(",")[0]
    common = {"vocab_size": 61, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.AutoConfig.for_model(kind, **common, **CONFIGS[case])


def shaken(config) -> torch.nn.Module:
    """transformers' model with weights that make every part of it count: at its initialisation the layers hardly
    change the residual stream and all norms are ones."""
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2 or name.endswith("A_log"):
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=1.5 * parameter[0].numel() ** -0.5)
    return model


@pytest.mark.parametrize("case", sorted(CONFIGS))
def test_logits_are_transformers(case):
    config = config_of(case)
    reference = shaken(config)
    ours = from_config(config)
    ours.load_transformers(reference.state_dict())
    tokens = torch.randint(61, (2, 24))
    split = 19
    with torch.no_grad():
        expected = reference(tokens, use_cache=False).logits
        logits, _ = ours(tokens)
        expect("prefill", relative_error(logits, expected), DEEP)

        # Prefill in three parts, then token by token.
        parts, cache = [], None
        for part in tokens.split([1, 7, split - 8] + [1] * (24 - split), dim=1):
            logits, cache = ours(part, cache)
            parts.append(logits)
        expect("prefill in parts, and decoding", relative_error(torch.cat(parts, dim=1), expected), DEEP)
        if case == "falcon_h1, norm then gate" or case == "falcon_h1, gate then norm":
            return  # transformers cannot decode these: see test_oracle_faults

        output = reference(tokens[:, :split], use_cache=True)
        name = "cache_params" if "mamba" in case else "past_key_values"
        theirs = {name: output[name]}
        for t in range(split, 24):
            step = reference(tokens[:, t : t + 1], use_cache=True, **theirs).logits
            expect(f"decoding token {t}", relative_error(parts[3 + t - split], step), DEEP)


def test_olmo_hybrid_without_rotary_embedding():
    """The released model has none; transformers' class cannot say so in its constructor, but the attribute can."""
    config = config_of("olmo_hybrid")
    config.rope_parameters = None
    reference = shaken(config)
    ours = from_config(config)
    ours.load_transformers(reference.state_dict())
    tokens = torch.randint(61, (2, 12))
    with torch.no_grad():
        expect("logits", relative_error(ours(tokens)[0], reference(tokens, use_cache=False).logits), DEEP)


@pytest.mark.parametrize("attention", ["full", "sliding", "hybrid"])
def test_the_suites_own_model_is_transformers_model_of_the_same_layers(attention):
    """Llama, Mistral and Falcon-H1. Falcon-H1's attention has no window, so here none is shorter than the text."""
    fields = {
        **{**ATTENTION, **MLP, "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "rms_norm_eps": 1e-5},
        **{"model_type": "hybrid_attention", "attention": attention, "rope_theta": 1e4, "mamba_d_state": 6},
        "sliding_window": 5 if attention == "sliding" else 24,
    }
    reference = shaken(transformers_config(fields))
    ours = from_config(HybridAttentionConfig.from_dict(fields))
    ours.load_transformers(twin_weights(reference, attention))
    tokens = torch.randint(61, (2, 24))
    with torch.no_grad():
        expected = reference(tokens, use_cache=False).logits
        expect("prefill", relative_error(ours(tokens)[0], expected), DEEP)
        parts, cache = [], None
        for part in tokens.split([1, 7, 11] + [1] * 5, dim=1):
            logits, cache = ours(part, cache)
            parts.append(logits)
        expect("prefill in parts, and decoding", relative_error(torch.cat(parts, dim=1), expected), DEEP)


def history_block(window: int = 4) -> SlidingWindowHistoryBlock:
    return SlidingWindowHistoryBlock(
        16,
        heads=4,
        key_heads=2,
        head_size=4,
        window=window,
        frequencies=rotary_frequencies(4, theta=1e4),
        state_size=8,
        inner=32,
    ).double()


def test_the_history_block_decodes_what_it_prefills_with_a_state_of_constant_size():
    block, x = history_block(), torch.randn(2, 30, 16, dtype=torch.float64)
    whole, _ = block(x, None, 0)
    parts, state, sizes = [], None, []
    for t in range(30):
        part, state = block(x[:, t : t + 1], state, t)
        near, history = state
        assert isinstance(near, AttentionState) and isinstance(history, RecurrentState)
        parts.append(part)
        sizes.append(sum(tensor.numel() for tensor in (*near, *history)))
    expect("decode = prefill", relative_error(torch.cat(parts, dim=1), whole), FLOAT64)
    assert len(set(sizes[3:])) == 1  # window − 1 keys and values, and the SSM's state, from the third token on


def test_the_history_branch_reaches_beyond_the_window():
    block, x = history_block(), torch.randn(1, 30, 16, dtype=torch.float64)
    changed = x.clone()
    changed[:, 5] += 1.0
    with torch.no_grad():
        block.mamba.A_log.fill_(-4.0)  # slow decay: a memory of some fifty tokens
        assert (block(changed, None, 0)[0] - block(x, None, 0)[0])[:, -1].abs().max() > 1e-6
        block.mamba.out_proj.weight.zero_()  # without the branch, token 5 is out of sight after the window
        assert torch.equal(block(changed, None, 0)[0][:, 9:], block(x, None, 0)[0][:, 9:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_implemented_is_refused_by_name(change, message):
    config = config_of("llama")
    wanted = type("Config", (), {**config.to_dict(), "rope_parameters": config.rope_parameters, **change})()
    with pytest.raises(ValueError, match=message):
        from_config(wanted)


def test_wrong_tokens_and_caches_are_refused_by_name():
    model = from_config(config_of("llama"))
    with pytest.raises(TypeError, match=r"^tokens"):
        model(torch.randn(1, 3))
    with pytest.raises(ValueError, match=r"^tokens"):
        model(torch.zeros(3, dtype=torch.long))
    cache = model(torch.zeros(1, 3, dtype=torch.long))[1]
    with pytest.raises(ValueError, match=r"^cache"):
        model(torch.zeros(1, 1, dtype=torch.long), cache._replace(states=cache.states[:1]))
    with pytest.raises(RuntimeError, match="lm_head"):
        model.load_transformers({})


def test_fresh_weights_start_as_the_released_models_do():
    """Norms change nothing, rates of decay are 1 … H (Mamba-2) or 1 … N (Mamba), and random weights keep magnitudes."""
    for offset in (0.0, 1.0):
        assert torch.equal(mixers.RMSNorm(4, 1e-6, offset).weight, torch.full((4,), 1.0 - offset))
    assert torch.equal(mixers.GatedRMSNorm(4, 1e-6, "norm_before_gate").weight, torch.ones(4))
    scan = {"taps": 4, "convolution_bias": True, "bias": False}
    mamba2 = mixers.Mamba2(
        8, heads=5, head_size=2, groups=1, state_size=3, step_limits=(0.0, 9.0), norm=None, **scan
    )  # fmt: skip
    torch.testing.assert_close(mamba2.A_log.exp(), torch.arange(1.0, 6.0))
    assert torch.equal(torch.cat([mamba2.D, mamba2.dt_bias]), torch.ones(10))
    mamba = mixers.Mamba1(8, inner=6, state_size=3, step_rank=2, norm_epsilon=None, **scan)
    torch.testing.assert_close(mamba.A_log.exp(), torch.arange(1.0, 4.0).repeat(6, 1))
    assert torch.equal(mamba.D, torch.ones(6))
    sizes = mixers.DeltaNetSizes(8, key_heads=1000, value_heads=1000, key_size=1, value_size=1, taps=4)
    delta = mixers.Qwen35GatedDeltaNet(sizes, epsilon=1e-6)
    rates = delta.A_log.exp()
    assert 0.01 <= rates.min() < 0.5 < 15.5 < rates.max() <= 16.0
    assert torch.equal(delta.dt_bias, torch.ones(1000))
    convolution = mixers.Convolution(4000, 4, True)
    assert convolution.weight.std().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(convolution.bias, torch.zeros(4000))
    experts = Experts(5, 64, 16)
    assert experts.gate_up_proj.std().item() == pytest.approx(1 / 8, rel=0.1)
    assert experts.down_proj.std().item() == pytest.approx(1 / 4, rel=0.1)
