"""Families whose layers mix tokens by attention alone, full or in windows."""

from __future__ import annotations

from hybrid_ops.models import components
from hybrid_ops.models.components import FULL, SLIDING
from hybrid_ops.models.fields import Fields
from hybrid_ops.models.stack import (
    Attention,
    Layer,
)


def read_llama(fields: Fields) -> list[Layer]:
    hidden = fields.size("hidden_size")
    attention = components.attention(fields, bias=fields.flag("attention_bias", False))
    feed_forward = components.gated_feed_forward(
        hidden, fields.size("intermediate_size"), fields.flag("mlp_bias", False)
    )
    return [Layer(FULL, (attention, feed_forward), 2 * hidden)] * fields.size("num_hidden_layers")


def read_mistral(fields: Fields) -> list[Layer]:
    hidden, window = fields.size("hidden_size"), fields.window("sliding_window", 4096)
    attention = components.attention(fields, window=window)
    feed_forward = components.gated_feed_forward(hidden, fields.size("intermediate_size"))
    kind = FULL if window is None else SLIDING
    return [Layer(kind, (attention, feed_forward), 2 * hidden)] * fields.size("num_hidden_layers")


_ATTENTION_TYPES = {"full_attention": FULL, "sliding_attention": SLIDING}


def read_qwen3(fields: Fields) -> list[Layer]:
    hidden = fields.size("hidden_size")
    window = fields.window("sliding_window", 4096) if fields.flag("use_sliding_window", False) else None
    first_sliding = fields.size("max_window_layers", 28, minimum=0)
    kinds = fields.layer_types(
        "layer_types",
        lambda index: "sliding_attention" if window and index >= first_sliding else "full_attention",
        _ATTENTION_TYPES,
    )
    feed_forward = components.gated_feed_forward(hidden, fields.size("intermediate_size"))
    bias = fields.flag("attention_bias", False)

    def attention(kind: str) -> Attention:
        return components.attention(
            fields, head_dim=128, bias=bias, head_norms=True, window=window if kind == SLIDING else None
        )

    return [Layer(kind, (attention(kind), feed_forward), 2 * hidden) for kind in kinds]


def read_gemma3(fields: Fields) -> list[Layer]:
    hidden, window = fields.size("hidden_size"), fields.size("sliding_window", 4096)
    pattern = fields.size("sliding_window_pattern", 6)
    kinds = fields.layer_types(
        "layer_types",
        lambda index: "sliding_attention" if (index + 1) % pattern else "full_attention",
        _ATTENTION_TYPES,
    )
    feed_forward = components.gated_feed_forward(hidden, fields.size("intermediate_size"))
    bias = fields.flag("attention_bias", False)

    def attention(kind: str) -> Attention:
        return components.attention(
            fields, head_dim=256, bias=bias, head_norms=True, window=window if kind == SLIDING else None
        )

    return [Layer(kind, (attention(kind), feed_forward), 4 * hidden) for kind in kinds]
