"""Parameters, cache and state sizes against the modules that transformers builds, and against published figures."""

import pytest
import torch
import transformers

from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import HybridAttentionConfig
from hybrid_ops.layers.language_model import from_config
from hybrid_ops.models.configs import config_names, load_config
from hybrid_ops.models.families import load_model, read_model
from tests.models.twins import transformers_config

MIB = 1 << 20


def build_on_meta(config):
    """transformers' module of a configuration, without memory."""
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(transformers_config(config))


def stored_parameters(module):
    """Parameters of a module, each shared block once.

    Zamba2 declares which blocks share weights, but transformers ties them only where the output head is tied too.
    """
    tied = tuple(getattr(module.model, "_tied_weights_keys", None) or ()) if hasattr(module, "model") else ()
    return sum(
        parameter.numel()
        for name, parameter in module.named_parameters()
        if not name.removeprefix("model.").startswith(tied)
    )


@pytest.mark.parametrize("name", config_names())
def test_parameters_equal_the_module(name):
    config = load_config(name)
    assert read_model(config).parameters == stored_parameters(build_on_meta(config))


@pytest.mark.parametrize("name", [name for name in config_names() if name.startswith("attention-")])
def test_parameters_equal_the_reference_model(name):
    """transformers has no class of the suite's own model, `hybrid_ops.layers` has."""
    config = load_config(name)
    with torch.device("meta"):
        module = from_config(HybridAttentionConfig.from_dict(config))
    assert read_model(config).parameters == sum(parameter.numel() for parameter in module.parameters())


VARIATIONS = {
    "a window that full attention has not": ("attention-full-tiny", {"sliding_window": 64, "mamba_d_state": 8}),
    "biases": ("llama-tiny", {"attention_bias": True, "mlp_bias": True}),
    "tied head": ("llama-tiny", {"tie_word_embeddings": True}),
    "no head size": ("llama-tiny", {"head_dim": None}),
    "windows after some layers": (
        "qwen3-tiny",
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
    ),
    "experts": (
        "nemotron-h-tiny",
        {
            "hybrid_override_pattern": "ME*E",
            "num_hidden_layers": 4,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 96,
            "moe_shared_expert_intermediate_size": 160,
        },
    ),
    "experts in a latent space": (
        "nemotron-h-tiny",
        {
            "hybrid_override_pattern": "ME*-",
            "num_hidden_layers": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 96,
            "moe_shared_expert_intermediate_size": 160,
            "moe_latent_size": 64,
        },
    ),
    "layers by name": (
        "nemotron-h-tiny",
        {
            "hybrid_override_pattern": None,
            "layers_block_type": ["linear_attention", "mlp", "full_attention"],
            "num_hidden_layers": 3,
        },
    ),
    "mamba biases": ("mamba2-tiny", {"use_bias": True, "use_conv_bias": False}),
    "norm in the mixer": ("falcon-h1-tiny", {"mamba_rms_norm": True, "projectors_bias": True, "mamba_proj_bias": True}),
    "computed rank": ("mamba-tiny", {"time_step_rank": "auto", "use_bias": True}),
    "uneven delta heads": (
        "olmo-hybrid-tiny",
        {"linear_num_value_heads": 8, "linear_value_head_dim": 32, "linear_key_head_dim": 48},
    ),
    "some dense layers": ("qwen3-next-tiny", {"mlp_only_layers": [1], "decoder_sparse_step": 2}),
    "layers by interval": ("qwen3.5-tiny", {"layer_types": None, "full_attention_interval": 2}),
    "more experts": ("jamba-tiny", {"num_experts": 8, "num_experts_per_tok": 2, "mamba_dt_rank": "auto"}),
    "adapters and two shared blocks": (
        "zamba2-tiny",
        {
            "use_shared_attention_adapter": True,
            "num_mem_blocks": 2,
            "layers_block_type": ["hybrid", "mamba", "hybrid", "mamba", "hybrid", "hybrid"],
            "hybrid_layer_ids": [0, 2, 4, 5],
        },
    ),
    "routed experts": ("granite-h-tiny", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "adjusted width": ("lfm2-tiny", {"block_auto_adjust_ff_dim": True, "block_multiple_of": 64, "conv_bias": True}),
}


@pytest.mark.parametrize(("name", "changes"), VARIATIONS.values(), ids=VARIATIONS)
def test_parameters_of_variations_equal_the_module(name, changes):
    config = {field: value for field, value in (load_config(name) | changes).items() if value is not None}
    assert read_model(config).parameters == stored_parameters(build_on_meta(config))


PUBLISHED = {
    # name: (parameters, bytes of cache a token in bfloat16, MiB of recurrent state in float32, MiB of windows)
    "olmo-hybrid-7b": (7_430_870_688, 122_880, 50.625, 0),
    "nemotron-h-8b": (8_100_852_736, 16_384, 96, 0),
    "falcon-h1-7b": (7_585_513_568, 45_056, 132, 0),
    "falcon-mamba-7b": (7_272_665_088, 0, 32, 0),
    "llama-3.2-1b": (1_235_814_400, 32_768, 0, 0),
    "llama-3.2-3b": (3_212_749_824, 114_688, 0, 0),
    "qwen3-1.7b": (1_720_574_976, 114_688, 0, 0),
    "gemma-3-1b": (999_885_952, 4_096, 0, 11),
    "llama-2-7b": (6_738_415_616, 524_288, 0, 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    model = load_model(name)
    parameters, kv_bytes, state_mib, window_mib = PUBLISHED[name]
    assert model.parameters == parameters
    assert model.kv_bytes_per_token() == kv_bytes
    assert model.recurrent_state_bytes("float32") == state_mib * MIB
    assert model.window_bytes() == window_mib * MIB
