"""Families with other linear mixers among full attention: gated delta nets and short convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable

from hybrid_ops.models import components
from hybrid_ops.models.components import CONVOLUTION, DELTA, FULL
from hybrid_ops.models.fields import Fields
from hybrid_ops.models.stack import (
    Component,
    Layer,
    MixtureOfExperts,
    Projection,
    ShortConvolution,
)

_LINEAR_TYPES = {"linear_attention": DELTA, "full_attention": FULL}


def read_olmo_hybrid(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    key_dim = int(0.75 * hidden / fields.size("linear_num_key_heads", heads))
    kinds = fields.layer_types(
        "layer_types", lambda index: "full_attention" if index % 4 == 3 else "linear_attention", _LINEAR_TYPES
    )
    parts: dict[str, Component] = {
        FULL: components.attention(fields, bias=fields.flag("attention_bias", False), full_width_norms=True),
        DELTA: components.gated_delta_net(
            fields,
            {
                "key_heads": heads,
                "value_heads": heads,
                "key_dim": key_dim,
                "value_dim": 2 * fields.size("linear_key_head_dim", key_dim),
            },
        ),
    }
    feed_forward = components.gated_feed_forward(hidden, fields.size("intermediate_size"))
    return [Layer(kind, (parts[kind], feed_forward), 2 * hidden) for kind in kinds]


def _qwen_hybrid(fields: Fields, feed_forward: Callable[[int], Component]) -> list[Layer]:
    """Qwen3-Next and Qwen3.5: gated attention among gated delta nets, and any feed-forward a layer."""
    hidden, interval = fields.size("hidden_size"), fields.size("full_attention_interval", 4)
    kinds = fields.layer_types(
        "layer_types", lambda index: "linear_attention" if (index + 1) % interval else "full_attention", _LINEAR_TYPES
    )
    bias = fields.flag("attention_bias", False)
    defaults = {"key_heads": 16, "value_heads": 32, "key_dim": 128, "value_dim": 128}
    parts: dict[str, Component] = {
        FULL: components.attention(fields, head_dim=256, bias=bias, head_norms=True, gated=True),
        DELTA: components.gated_delta_net(fields, defaults),
    }
    return [Layer(kind, (parts[kind], feed_forward(index)), 2 * hidden) for index, kind in enumerate(kinds)]


def read_qwen3_next(fields: Fields) -> list[Layer]:
    hidden, experts = fields.size("hidden_size"), fields.size("num_experts", minimum=0)
    dense_layers = fields.config.get("mlp_only_layers") or []
    sparse_step = fields.size("decoder_sparse_step", 1)

    def feed_forward(index: int) -> Component:
        if index in dense_layers or experts == 0 or (index + 1) % sparse_step:
            return components.gated_feed_forward(hidden, fields.size("intermediate_size"))
        return MixtureOfExperts(
            experts=experts,
            active=fields.size("num_experts_per_tok"),
            expert=components.gated_projections(hidden, fields.size("moe_intermediate_size")),
            projections=(
                Projection("router", hidden, experts),
                *components.gated_projections(hidden, fields.size("shared_expert_intermediate_size")),
                Projection("gate of the shared expert", hidden, 1),
            ),
        )

    return _qwen_hybrid(fields, feed_forward)


def read_qwen3_5(fields: Fields) -> list[Layer]:
    feed_forward = components.gated_feed_forward(fields.size("hidden_size"), fields.size("intermediate_size"))
    return _qwen_hybrid(fields, lambda index: feed_forward)


def read_lfm2(fields: Fields) -> list[Layer]:
    hidden, kernel = fields.size("hidden_size"), fields.size("conv_L_cache", 3)
    inner = fields.size("block_ff_dim", fields.config.get("intermediate_size"))
    if fields.flag("block_auto_adjust_ff_dim", True):
        inner = int(fields.config.get("block_ffn_dim_multiplier", 1.0) * int(2 * inner / 3))
        multiple = fields.size("block_multiple_of", 256)
        inner = multiple * math.ceil(inner / multiple)
    bias = fields.flag("conv_bias", False)
    parts: dict[str, Component] = {
        FULL: components.attention(fields, head_norms=True),
        CONVOLUTION: ShortConvolution(
            channels=hidden,
            kernel=kernel,
            vector_parameters=hidden * kernel + (hidden if bias else 0),
            projections=(Projection("input", hidden, 3 * hidden, bias), Projection("output", hidden, hidden, bias)),
        ),
    }
    attention_layers = fields.config.get("full_attn_idxs")
    kinds = fields.layer_types(
        "layer_types",
        lambda index: "full_attention" if attention_layers is None or index in attention_layers else "conv",
        {"conv": CONVOLUTION, "full_attention": FULL},
    )
    feed_forward = components.gated_feed_forward(hidden, inner)
    return [Layer(kind, (parts[kind], feed_forward), 2 * hidden) for kind in kinds]
