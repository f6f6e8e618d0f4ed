"""Configurations of every architecture that `from_config` reads, with every field that it reads drawn."""

from typing import Any

import transformers
from hypothesis import strategies as st

from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import HybridAttentionConfig
from tests.layers.calls import llama3
from tests.models.twins import transformers_config

Fields = dict[str, Any]

sometimes = st.booleans()
multipliers = st.sampled_from([0.6, 0.9, 1.0, 1.3])
wide_epsilons = st.sampled_from([1e-6, 1e-2, 0.3])
"""Hidden states here are about 1, so that each of these gives other logits."""
limits = st.sampled_from([(0.0, float("inf")), (0.4, 0.9), (0.0, 0.5), (0.8, float("inf"))])
"""Of the time step, which is about 1: some that are met from below, from above, and not at all."""
thetas, factors = st.floats(5.0, 1e4), st.floats(1.5, 8.0)
ropes = st.fixed_dictionaries({"rope_type": st.just("default"), "rope_theta": thetas})
ropes |= st.fixed_dictionaries({"rope_type": st.just("linear"), "rope_theta": thetas, "factor": factors})
long_ropes = ropes | st.builds(lambda scaling, theta: scaling | {"rope_theta": theta}, llama3, thetas)


def partial(rope: Fields, share: float) -> Fields:
    return rope | {"partial_rotary_factor": share}


partial_ropes = st.builds(partial, ropes, st.sampled_from([0.25, 0.5, 1.0]))


def common(**fields: st.SearchStrategy) -> st.SearchStrategy[Fields]:
    return st.fixed_dictionaries(
        {
            "vocab_size": st.sampled_from([37, 61]),
            "hidden_size": st.sampled_from([16, 32]),
            "tie_word_embeddings": sometimes,
            **fields,
        }
    )


ATTENTION = {
    "num_attention_heads": st.sampled_from([2, 4]),
    "num_key_value_heads": st.sampled_from([1, 2]),
    "head_dim": st.sampled_from([8, 12]),
    "intermediate_size": st.integers(20, 40),
}
EVEN_QUARTERS = ATTENTION | {"head_dim": st.sampled_from([8, 16])}
"""A quarter of a head turns, in pairs."""
LAYERS = {"num_hidden_layers": st.integers(1, 2)}
DELTA_NET = {
    "linear_num_key_heads": st.sampled_from([1, 2]),
    "linear_num_value_heads": st.sampled_from([2, 4]),
    "linear_key_head_dim": st.sampled_from([4, 8]),
    "linear_value_head_dim": st.sampled_from([4, 6]),
    "linear_conv_kernel_dim": st.sampled_from([2, 4]),
}


def kinds(*choices: str) -> st.SearchStrategy[list[str]]:
    """One layer of each kind, in any order, and perhaps one more."""
    return st.tuples(st.permutations(choices), st.sampled_from([[], [choices[0]], [choices[-1]]])).map(
        lambda parts: [*parts[0], *parts[1]]
    )


def with_layers(fields: Fields, name: str = "layer_types") -> Fields:
    return fields | {"num_hidden_layers": len(fields[name])}


def mamba(**more: st.SearchStrategy) -> st.SearchStrategy[Fields]:
    return common(
        **LAYERS,
        state_size=st.sampled_from([3, 4]),
        time_step_rank=st.sampled_from([2, 3]),
        intermediate_size=st.sampled_from([32, 48]),
        conv_kernel=st.sampled_from([2, 4]),
        use_conv_bias=sometimes,
        use_bias=sometimes,
        layer_norm_epsilon=wide_epsilons,
        **more,
    )


def heads_that_fit(fields: Fields) -> Fields:
    """Mamba-2's inner size is `expand` times the width, and `num_heads` heads of `head_dim` make it up."""
    return fields | {"expand": 2, "head_dim": 2 * fields["hidden_size"] // fields["num_heads"]}


def bare_heads(fields: Fields) -> Fields:
    """Falcon-H1's inner size is its own field, made of heads."""
    return fields | {"mamba_d_ssm": fields["mamba_n_heads"] * fields["mamba_d_head"]}


KINDS: dict[str, st.SearchStrategy[Fields]] = {
    "llama": common(
        **ATTENTION | {"head_dim": st.sampled_from([None, 8, 12])},
        **LAYERS,
        attention_bias=sometimes,
        mlp_bias=sometimes,
        rms_norm_eps=wide_epsilons,
        rope_parameters=long_ropes,
    ),
    "gemma3_text": common(
        **ATTENTION,
        layer_types=kinds("sliding_attention", "full_attention"),
        attention_bias=sometimes,
        rms_norm_eps=wide_epsilons,
        rope_parameters=st.fixed_dictionaries({"sliding_attention": ropes, "full_attention": ropes}),
        sliding_window=st.sampled_from([3, 5]),
        query_pre_attn_scalar=st.sampled_from([5, 11]),
        attn_logit_softcapping=st.sampled_from([None, 0.7, 2.0]),
        final_logit_softcapping=st.sampled_from([None, 0.7, 4.0]),
    ).map(with_layers),
    "mamba": mamba(),
    "falcon_mamba": mamba(mixer_rms_eps=wide_epsilons),
    "mamba2": common(
        **LAYERS,
        num_heads=st.sampled_from([4, 8]),
        n_groups=st.sampled_from([1, 2]),
        state_size=st.sampled_from([3, 6]),
        conv_kernel=st.sampled_from([2, 4]),
        use_conv_bias=sometimes,
        use_bias=sometimes,
        time_step_limit=limits,
        layer_norm_epsilon=wide_epsilons,
        chunk_size=st.just(8),
    ).map(heads_that_fit),
    "nemotron_h": common(
        **ATTENTION,
        layers_block_type=kinds("linear_attention", "full_attention", "mlp"),
        mamba_num_heads=st.sampled_from([2, 4]),
        mamba_head_dim=st.sampled_from([4, 8]),
        n_groups=st.sampled_from([1, 2]),
        ssm_state_size=st.sampled_from([3, 6]),
        conv_kernel=st.sampled_from([2, 4]),
        use_conv_bias=sometimes,
        use_bias=sometimes,
        mlp_bias=sometimes,
        time_step_min=st.sampled_from([1e-9, 0.4, 1.2]),
        layer_norm_epsilon=wide_epsilons,
        chunk_size=st.just(8),
    ),
    "falcon_h1": common(
        **ATTENTION,
        **LAYERS,
        attention_bias=sometimes,
        mlp_bias=sometimes,
        rms_norm_eps=wide_epsilons,
        rope_parameters=ropes,
        mamba_n_heads=st.sampled_from([2, 4]),
        mamba_d_head=st.sampled_from([4, 8]),
        mamba_n_groups=st.sampled_from([1, 2]),
        mamba_d_state=st.sampled_from([3, 6]),
        mamba_d_conv=st.sampled_from([2, 4]),
        mamba_conv_bias=sometimes,
        mamba_proj_bias=sometimes,
        projectors_bias=sometimes,
        mamba_rms_norm=sometimes,
        mamba_norm_before_gate=sometimes,
        time_step_limit=limits,
        key_multiplier=multipliers,
        embedding_multiplier=multipliers,
        lm_head_multiplier=multipliers,
        attention_in_multiplier=multipliers,
        attention_out_multiplier=multipliers,
        ssm_in_multiplier=multipliers,
        ssm_out_multiplier=multipliers,
        ssm_multipliers=st.permutations([0.9, 1.1, 1.2, 0.8, 0.7]),
        mlp_multipliers=st.permutations([1.2, 0.9]),
        mamba_chunk_size=st.just(8),
    ).map(bare_heads),
    "olmo_hybrid": common(
        **ATTENTION,
        **DELTA_NET,
        layer_types=kinds("linear_attention", "full_attention"),
        attention_bias=sometimes,
        rms_norm_eps=wide_epsilons,
        rope_parameters=ropes,
        linear_allow_neg_eigval=sometimes,
    ).map(with_layers),
    "qwen3_next": common(
        **EVEN_QUARTERS,
        **DELTA_NET,
        layer_types=kinds("linear_attention", "full_attention"),
        attention_bias=sometimes,
        rms_norm_eps=wide_epsilons,
        rope_parameters=partial_ropes,
        num_experts=st.sampled_from([0, 4, 5]),
        num_experts_per_tok=st.sampled_from([1, 2]),
        moe_intermediate_size=st.sampled_from([8, 16]),
        shared_expert_intermediate_size=st.sampled_from([8, 16]),
        norm_topk_prob=sometimes,
        decoder_sparse_step=st.sampled_from([1, 2]),
        mlp_only_layers=st.sampled_from([[], [0], [1]]),
    ).map(with_layers),
    "qwen3_5_text": common(
        **EVEN_QUARTERS,
        **DELTA_NET,
        layer_types=kinds("linear_attention", "full_attention"),
        attention_bias=sometimes,
        rms_norm_eps=wide_epsilons,
        rope_parameters=partial_ropes,
    ).map(with_layers),
    "hybrid_attention": common(
        **ATTENTION,
        **LAYERS,
        attention=st.sampled_from(["full", "sliding", "hybrid"]),
        rms_norm_eps=wide_epsilons,
        rope_parameters=ropes,
        sliding_window=st.sampled_from([3, 5]),
        mamba_d_state=st.integers(2, 6),
    ),
}


def build(kind: str, fields: Fields) -> Any:
    """The configuration that our reader gets."""
    fixed = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "hybrid_attention":
        return HybridAttentionConfig(**fields, **fixed)
    config = transformers.AutoConfig.for_model(kind, **fields, **fixed)
    if "intermediate_size" in fields:  # derived by some classes, whatever is given
        config.intermediate_size = fields["intermediate_size"]
    return config


def build_reference(kind: str, fields: Fields) -> Any:
    """The configuration of the model of transformers that has the same layers."""
    if kind != "hybrid_attention":
        config = build(kind, fields)
        config._attn_implementation = "eager"  # the only one that bends scores
        return config
    return transformers_config({"model_type": kind, **fields, "pad_token_id": 0})


def for_twin(kind: str, fields: Fields, tokens: int) -> Fields:
    """Falcon-H1's attention, the twin of our hybrid's, has no window: then none is shorter than the text."""
    if kind == "hybrid_attention" and fields["attention"] == "hybrid":
        return fields | {"sliding_window": tokens}
    return fields
