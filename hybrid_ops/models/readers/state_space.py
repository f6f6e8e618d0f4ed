"""Families with Mamba layers, alone or among or beside attention."""

from __future__ import annotations

import math

from hybrid_ops.models import components
from hybrid_ops.models.components import EXPERTS, FULL, MAMBA1, MAMBA2, MLP, SLIDING
from hybrid_ops.models.fields import Fields
from hybrid_ops.models.stack import (
    Attention,
    Component,
    FeedForward,
    Layer,
    MixtureOfExperts,
    Projection,
)


def read_mamba1(fields: Fields) -> list[Layer]:
    hidden = fields.size("hidden_size")
    rank = fields.config.get("time_step_rank", "auto")
    mamba = components.mamba1(
        fields,
        # The field decides where it is given: Falcon-Mamba's published `expand` is not its inner size.
        inner=fields.size("intermediate_size", fields.size("expand", 2) * hidden),
        state=fields.size("state_size", 16),
        kernel=fields.size("conv_kernel", 4),
        rank=math.ceil(hidden / 16) if rank == "auto" else fields.size("time_step_rank"),
        bias=fields.flag("use_bias", False),
        conv_bias=fields.flag("use_conv_bias", True),
    )
    return [Layer(MAMBA1, (mamba,), hidden)] * fields.size("num_hidden_layers")


def read_mamba2(fields: Fields) -> list[Layer]:
    hidden, heads, head_dim = fields.size("hidden_size"), fields.size("num_heads"), fields.size("head_dim")
    inner = fields.size("expand", 2) * hidden
    if heads * head_dim != inner:
        raise fields.fault("head_dim", f"{heads} heads of {head_dim} do not make expand × hidden_size = {inner}")
    bias = fields.flag("use_bias", False)
    mamba = components.mamba2(
        fields,
        heads=heads,
        head_dim=head_dim,
        groups=fields.size("n_groups", 8),
        state=fields.size("state_size"),
        kernel=fields.size("conv_kernel", 4),
        heads_field="num_heads",
        groups_field="n_groups",
        input_bias=bias,
        output_bias=bias,
        conv_bias=fields.flag("use_conv_bias", True),
    )
    return [Layer(MAMBA2, (mamba,), hidden)] * fields.size("num_hidden_layers")


_NEMOTRON_TYPES = {
    **{"M": MAMBA2, "*": FULL, "-": MLP, "E": EXPERTS},
    **{"linear_attention": MAMBA2, "full_attention": FULL, "mlp": MLP, "moe": EXPERTS},
    **{"mamba": MAMBA2, "attention": FULL},
}


def read_nemotron_h(fields: Fields) -> list[Layer]:
    hidden, bias = fields.size("hidden_size"), fields.flag("mlp_bias", False)
    listed = next((name for name in ("layers_block_type", "layer_types") if fields.config.get(name)), None)
    kinds = fields.layer_types(listed or "hybrid_override_pattern", None, _NEMOTRON_TYPES)

    def feed_forward(inner: int) -> tuple[Projection, ...]:
        return (Projection("up", hidden, inner, bias), Projection("down", inner, hidden, bias))

    def component(kind: str) -> Component:
        if kind == FULL:
            return components.attention(fields, head_dim=128, bias=fields.flag("attention_bias", False))
        if kind == MLP:
            return FeedForward(projections=feed_forward(fields.size("intermediate_size")))
        if kind == MAMBA2:
            return components.mamba2(
                fields,
                heads=fields.size("mamba_num_heads"),
                head_dim=fields.size("mamba_head_dim"),
                groups=fields.size("n_groups", 8),
                state=fields.size("ssm_state_size"),
                kernel=fields.size("conv_kernel", 4),
                heads_field="mamba_num_heads",
                groups_field="n_groups",
                input_bias=fields.flag("use_bias", False),
                output_bias=fields.flag("use_bias", False),
                conv_bias=fields.flag("use_conv_bias", True),
            )
        experts, width = fields.size("n_routed_experts"), fields.size("moe_intermediate_size")
        latent = fields.config.get("moe_latent_size")
        inputs = fields.size("moe_latent_size") if latent is not None else hidden
        shared = feed_forward(fields.size("moe_shared_expert_intermediate_size"))
        if latent is not None:
            shared += (Projection("to latent", hidden, inputs, bias), Projection("from latent", inputs, hidden, bias))
        return MixtureOfExperts(
            experts=experts,
            active=fields.size("num_experts_per_tok"),
            expert=(Projection("up", inputs, width), Projection("down", width, inputs)),
            projections=(Projection("router", hidden, experts), *shared),
        )

    parts = {kind: component(kind) for kind in dict.fromkeys(kinds)}
    return [Layer(kind, (parts[kind],), hidden) for kind in kinds]


def read_falcon_h1(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("mamba_n_heads")
    inner = fields.size("mamba_d_ssm", fields.size("mamba_expand", 2) * hidden)
    mamba = components.mamba2(
        fields,
        heads=heads,
        head_dim=components.mamba_head_dim(fields, inner, heads),
        groups=fields.size("mamba_n_groups", 1),
        state=fields.size("mamba_d_state"),
        kernel=fields.size("mamba_d_conv", 4),
        heads_field="mamba_n_heads",
        groups_field="mamba_n_groups",
        input_bias=fields.flag("mamba_proj_bias", False),
        output_bias=fields.flag("projectors_bias", False),
        conv_bias=fields.flag("mamba_conv_bias", True),
        norm=fields.flag("mamba_rms_norm", False),
    )
    attention = components.attention(fields, bias=fields.flag("attention_bias", False))
    feed_forward = components.gated_feed_forward(
        hidden, fields.size("intermediate_size"), fields.flag("mlp_bias", False)
    )
    layer = Layer(f"{FULL} and {MAMBA2} in parallel", (attention, mamba, feed_forward), 2 * hidden)
    return [layer] * fields.size("num_hidden_layers")


def read_hybrid_attention(fields: Fields) -> list[Layer]:
    hidden, kind = fields.size("hidden_size"), fields.config.get("attention", "hybrid")
    if kind not in ("full", "sliding", "hybrid"):
        raise fields.fault("attention", f"{kind!r} is not one of full, sliding, hybrid")
    attention = components.attention(fields, window=None if kind == "full" else fields.size("sliding_window", 4096))
    feed_forward = components.gated_feed_forward(hidden, fields.size("intermediate_size"))
    parts: tuple[Component, ...] = (attention, feed_forward)
    words = FULL if kind == "full" else SLIDING
    if kind == "hybrid":
        history = components.mamba2(
            fields,
            heads=attention.heads,
            head_dim=attention.head_dim,
            groups=1,
            state=fields.size("mamba_d_state", 128),
            kernel=4,
            heads_field="num_attention_heads",
            groups_field="n_groups",
            input_bias=False,
            output_bias=False,
            conv_bias=True,
        )
        words, parts = f"{SLIDING} and {MAMBA2} in parallel", (attention, history, feed_forward)
    return [Layer(words, parts, 2 * hidden)] * fields.size("num_hidden_layers")


def read_jamba(fields: Fields) -> list[Layer]:
    hidden, inner = fields.size("hidden_size"), fields.size("intermediate_size")
    state, rank = fields.size("mamba_d_state", 16), fields.config.get("mamba_dt_rank", "auto")
    rank = math.ceil(hidden / 16) if rank == "auto" else fields.size("mamba_dt_rank")
    bias = fields.flag("mamba_proj_bias", False)
    scan = components.mamba1(
        fields,
        inner=fields.size("mamba_expand", 2) * hidden,
        state=state,
        kernel=fields.size("mamba_d_conv", 4),
        rank=rank,
        bias=bias,
        conv_bias=fields.flag("mamba_conv_bias", True),
    )
    attention = components.attention(fields)
    norms = FeedForward(vector_parameters=rank + 2 * state)  # Jamba norms the time step, B and C
    experts = fields.size("num_experts", 16)
    sparse = MixtureOfExperts(
        experts=experts,
        active=fields.size("num_experts_per_tok", 2),
        expert=components.gated_projections(hidden, inner),
        projections=(Projection("router", hidden, experts),),
    )
    dense = components.gated_feed_forward(hidden, inner)
    attention_period, attention_offset = fields.size("attn_layer_period", 8), fields.size("attn_layer_offset", 4, 0)
    expert_period, expert_offset = fields.size("expert_layer_period", 2), fields.size("expert_layer_offset", 1, 0)

    def layer(index: int) -> Layer:
        feed_forward = sparse if experts > 1 and index % expert_period == expert_offset else dense
        if index % attention_period == attention_offset:
            return Layer(FULL, (attention, feed_forward), 2 * hidden)
        return Layer(MAMBA1, (scan, norms, feed_forward), 2 * hidden)

    return [layer(index) for index in range(fields.size("num_hidden_layers"))]


_ZAMBA_TYPES = {"mamba": MAMBA2, "linear_attention": MAMBA2, "hybrid": "hybrid"}


def read_zamba2(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("n_mamba_heads")
    bias = fields.flag("add_bias_linear", False)
    mamba = components.mamba2(
        fields,
        heads=heads,
        head_dim=fields.size("mamba_expand", 2) * hidden // heads,
        groups=fields.size("mamba_ngroups", 1),
        state=fields.size("mamba_d_state", 64),
        kernel=fields.size("mamba_d_conv", 4),
        heads_field="n_mamba_heads",
        groups_field="mamba_ngroups",
        input_bias=bias,
        output_bias=bias,
        conv_bias=True,
    )
    adapters = _zamba2_adapters(fields)
    kinds = fields.layer_types("layers_block_type", None, _ZAMBA_TYPES)
    blocks = fields.size("num_mem_blocks", 1)
    layers, hybrids = [], 0
    for kind in kinds:
        if kind == MAMBA2:
            layers.append(Layer(MAMBA2, (mamba,), hidden))
            continue
        shared = _zamba2_shared_block(fields, is_first=hybrids < blocks)
        layers.append(Layer(f"shared {FULL}, then {MAMBA2}", (*shared, adapters, mamba), hidden))
        hybrids += 1
    return layers


def _zamba2_adapters(fields: Fields) -> FeedForward:
    """What each use of a shared block has of its own."""
    hidden, rank = fields.size("hidden_size"), fields.size("adapter_rank", 128)
    inner, width = _zamba2_inner(fields), 2 * hidden
    attention_adapters: tuple[Projection, ...] = ()
    if fields.flag("use_shared_attention_adapter", False):
        attention_adapters = tuple(
            projection
            for name in ("query", "key", "value")
            for projection in (Projection(f"{name} in", width, rank), Projection(f"{name} out", rank, width))
        )
    return FeedForward(
        projections=(
            *attention_adapters,
            Projection("gate and up in", hidden, rank),
            Projection("gate and up out", rank, 2 * inner),
            Projection("to the stream", hidden, hidden),
        )
    )


def _zamba2_shared_block(fields: Fields, is_first: bool) -> tuple[Component, Component]:
    """The attention and feed-forward of a block whose weights later uses share."""
    hidden = fields.size("hidden_size")
    width = 2 * hidden  # attention reads the layer's input beside the embedding
    query_heads = fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", query_heads)
    head_dim = width // query_heads
    attention = Attention(
        heads=query_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        reuses_weights=not is_first,
        vector_parameters=width + hidden,  # the norms of the shared block
        projections=(
            Projection("query", width, query_heads * head_dim),
            Projection("key", width, kv_heads * head_dim),
            Projection("value", width, kv_heads * head_dim),
            Projection("output", query_heads * head_dim, hidden),
        ),
    )
    projections = components.gated_projections(hidden, _zamba2_inner(fields), fields.flag("add_bias_linear", False))
    return attention, FeedForward(projections=projections, reuses_weights=not is_first)


def _zamba2_inner(fields: Fields) -> int:
    return fields.size("intermediate_size", 4 * fields.size("hidden_size"))


_GRANITE_TYPES = {"mamba": MAMBA2, "linear_attention": MAMBA2, "attention": FULL, "full_attention": FULL}


def read_granite_hybrid(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("mamba_n_heads")
    inner = fields.size("mamba_expand", 2) * hidden
    bias = fields.flag("mamba_proj_bias", False)
    parts: dict[str, Component] = {
        FULL: components.attention(fields, bias=fields.flag("attention_bias", False)),
        MAMBA2: components.mamba2(
            fields,
            heads=heads,
            head_dim=components.mamba_head_dim(fields, inner, heads),
            groups=fields.size("mamba_n_groups", 1),
            state=fields.size("mamba_d_state"),
            kernel=fields.size("mamba_d_conv", 4),
            heads_field="mamba_n_heads",
            groups_field="mamba_n_groups",
            input_bias=bias,
            output_bias=bias,
            conv_bias=fields.flag("mamba_conv_bias", True),
        ),
    }
    shared = components.gated_feed_forward(hidden, fields.size("shared_intermediate_size"))
    feed_forward: tuple[Component, ...] = (shared,)
    experts = fields.size("num_local_experts", minimum=0)
    if experts:
        routed = MixtureOfExperts(
            experts=experts,
            active=fields.size("num_experts_per_tok"),
            expert=components.gated_projections(hidden, fields.size("intermediate_size")),
            projections=(Projection("router", hidden, experts),),
        )
        feed_forward = (routed, shared)
    kinds = fields.layer_types("layer_types", lambda index: "mamba", _GRANITE_TYPES)
    return [Layer(kind, (parts[kind], *feed_forward), 2 * hidden) for kind in kinds]
