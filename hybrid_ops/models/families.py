"""From a Hugging Face configuration to a model's layer stack, one reader an architecture family.

Absent fields take the defaults of Hugging Face's configuration class, except those without which a model is a guess
(sizes, numbers of layers and of heads): these are required. Each reader was checked against the parameters of the
module built from the same configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.models.configs import find_config, load_config
from hybrid_ops.models.stack import (
    BYTES_OF_DTYPE,
    Attention,
    Component,
    FeedForward,
    GatedDeltaNet,
    Layer,
    Mamba1,
    Mamba2,
    MixtureOfExperts,
    ModelStack,
    Projection,
    ShortConvolution,
)


class Fields:
    """The fields of one configuration, with errors that name the file and the field."""

    def __init__(self, config: Mapping[str, Any], source: str):
        self.config = config
        self.source = source

    def fault(self, field: str, message: str) -> InputError:
        return InputError(f"{self.source}: {field}: {message}")

    def size(self, field: str, default: int | None = None, minimum: int = 1) -> int:
        """A whole number of at least `minimum`; required when there is no default."""
        value = self.config.get(field)
        if value is None:
            value = default
        if value is None:
            raise self.fault(field, "missing")
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.fault(field, f"expected a whole number of at least {minimum}, found {value!r}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.config.get(field)
        return default if value is None else bool(value)

    def window(self, field: str, default: int | None) -> int | None:
        """A window in tokens, or None where the configuration says null."""
        if field in self.config and self.config[field] is None:
            return None
        return default if field not in self.config else self.size(field)

    def layer_types(self, field: str, default: Callable[[int], str] | None, known: Mapping[str, str]) -> list[str]:
        """One layer type a layer, in our words. `known` translates the configuration's."""
        given = self.config.get(field)
        if given is None:
            if default is None:
                raise self.fault(field, "missing")
            given = [default(index) for index in range(self.size("num_hidden_layers"))]
        elif not isinstance(given, list | str):
            raise self.fault(field, f"expected a list of layer types, found {given!r}")
        count = self.size("num_hidden_layers", default=len(given))
        if len(given) != count:
            raise self.fault(field, f"{len(given)} layer types for num_hidden_layers = {count}")
        for kind in given:
            if kind not in known:
                raise self.fault(field, f"unknown layer type {kind!r}; known: {', '.join(known)}")
        return [known[kind] for kind in given]


FULL, SLIDING, MAMBA1, MAMBA2, DELTA, MLP, EXPERTS, CONVOLUTION = (
    "full attention",
    "sliding-window attention",
    "mamba-1",
    "mamba-2",
    "gated delta net",
    "feed-forward",
    "mixture of experts",
    "short convolution",
)

Reader = Callable[[Fields], list[Layer]]


def _attention(
    fields: Fields,
    *,
    head_dim: int | None = None,
    bias: bool = False,
    window: int | None = None,
    head_norms: bool = False,
    full_width_norms: bool = False,
    gated: bool = False,
) -> Attention:
    """Grouped-query attention: `heads` queries share `kv_heads` keys and values.

    `head_norms` are one norm of queries and one of keys of a head's width, `full_width_norms` of all heads' width;
    `gated` doubles the query projection for an output gate.
    """
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.fault("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads = {heads}")
    head_dim = fields.size("head_dim", head_dim or hidden // heads)
    query, key = heads * head_dim, kv_heads * head_dim
    norms = 2 * head_dim if head_norms else query + key if full_width_norms else 0
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        window=window,
        vector_parameters=norms,
        projections=(
            Projection("query", hidden, query * (2 if gated else 1), bias),
            Projection("key", hidden, key, bias),
            Projection("value", hidden, key, bias),
            Projection("output", query, hidden, bias),
        ),
    )


def _gated_feed_forward(hidden: int, inner: int, bias: bool = False) -> FeedForward:
    return FeedForward(projections=_gated_projections(hidden, inner, bias))


def _gated_projections(hidden: int, inner: int, bias: bool = False) -> tuple[Projection, ...]:
    return (
        Projection("gate", hidden, inner, bias),
        Projection("up", hidden, inner, bias),
        Projection("down", inner, hidden, bias),
    )


def _mamba1(fields: Fields, *, inner: int, state: int, kernel: int, rank: int, bias: bool, conv_bias: bool) -> Mamba1:
    hidden = fields.size("hidden_size")
    return Mamba1(
        channels=inner,
        kernel=kernel,
        state_matrices=inner,
        state_rows=1,
        state_columns=state,
        heads_field="intermediate_size",
        # The convolution, then A (a rate a number of state) and D (a skip a channel).
        vector_parameters=inner * kernel + (inner if conv_bias else 0) + inner * state + inner,
        projections=(
            Projection("input", hidden, 2 * inner, bias),
            Projection("time step, B and C", inner, rank + 2 * state),
            Projection("time step", rank, inner, bias=True),
            Projection("output", inner, hidden, bias),
        ),
    )


def _mamba2(
    fields: Fields,
    *,
    heads: int,
    head_dim: int,
    groups: int,
    state: int,
    kernel: int,
    heads_field: str,
    groups_field: str,
    input_bias: bool,
    output_bias: bool,
    conv_bias: bool,
    norm: bool = True,
) -> Mamba2:
    hidden, inner = fields.size("hidden_size"), heads * head_dim
    if heads % groups:
        raise fields.fault(groups_field, f"{groups} does not divide {heads_field} = {heads}")
    channels = inner + 2 * groups * state
    return Mamba2(
        channels=channels,
        kernel=kernel,
        state_matrices=heads,
        state_rows=head_dim,
        state_columns=state,
        groups=groups,
        heads_field=heads_field,
        groups_field=groups_field,
        # The convolution, then A, D and the time step's bias (one a head each), and the gated norm.
        vector_parameters=channels * kernel + (channels if conv_bias else 0) + 3 * heads + (inner if norm else 0),
        projections=(
            Projection("gate, x, B, C and time step", hidden, inner + channels + heads, input_bias),
            Projection("output", inner, hidden, output_bias),
        ),
    )


def _gated_delta_net(fields: Fields, defaults: Mapping[str, int | None]) -> GatedDeltaNet:
    hidden = fields.size("hidden_size")
    key_heads = fields.size("linear_num_key_heads", defaults["key_heads"])
    value_heads = fields.size("linear_num_value_heads", defaults["value_heads"])
    if value_heads % key_heads:
        message = f"{value_heads} is no multiple of linear_num_key_heads = {key_heads}"
        raise fields.fault("linear_num_value_heads", message)
    key_dim = fields.size("linear_key_head_dim", defaults["key_dim"])
    value_dim = fields.size("linear_value_head_dim", defaults["value_dim"])
    kernel = fields.size("linear_conv_kernel_dim", 4)
    keys, values = key_heads * key_dim, value_heads * value_dim
    channels = 2 * keys + values
    return GatedDeltaNet(
        channels=channels,
        kernel=kernel,
        key_heads=key_heads,
        state_matrices=value_heads,
        state_rows=key_dim,
        state_columns=value_dim,
        heads_field="linear_num_value_heads",
        # The convolution, the decay's A and time-step bias (one a head each), and the gated norm of a head's width.
        vector_parameters=channels * kernel + 2 * value_heads + value_dim,
        projections=(
            Projection("query, key and value", hidden, channels),
            Projection("output gate", hidden, values),
            Projection("write strength and decay", hidden, 2 * value_heads),
            Projection("output", values, hidden),
        ),
    )


def _read_llama(fields: Fields) -> list[Layer]:
    hidden = fields.size("hidden_size")
    attention = _attention(fields, bias=fields.flag("attention_bias", False))
    feed_forward = _gated_feed_forward(hidden, fields.size("intermediate_size"), fields.flag("mlp_bias", False))
    return [Layer(FULL, (attention, feed_forward), 2 * hidden)] * fields.size("num_hidden_layers")


def _read_mistral(fields: Fields) -> list[Layer]:
    hidden, window = fields.size("hidden_size"), fields.window("sliding_window", 4096)
    attention = _attention(fields, window=window)
    feed_forward = _gated_feed_forward(hidden, fields.size("intermediate_size"))
    kind = FULL if window is None else SLIDING
    return [Layer(kind, (attention, feed_forward), 2 * hidden)] * fields.size("num_hidden_layers")


def _read_hybrid_attention(fields: Fields) -> list[Layer]:
    hidden, kind = fields.size("hidden_size"), fields.config.get("attention", "hybrid")
    if kind not in ("full", "sliding", "hybrid"):
        raise fields.fault("attention", f"{kind!r} is not one of full, sliding, hybrid")
    attention = _attention(fields, window=None if kind == "full" else fields.size("sliding_window", 4096))
    feed_forward = _gated_feed_forward(hidden, fields.size("intermediate_size"))
    components: tuple[Component, ...] = (attention, feed_forward)
    words = FULL if kind == "full" else SLIDING
    if kind == "hybrid":
        history = _mamba2(
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
        words, components = f"{SLIDING} and {MAMBA2} in parallel", (attention, history, feed_forward)
    return [Layer(words, components, 2 * hidden)] * fields.size("num_hidden_layers")


_ATTENTION_TYPES = {"full_attention": FULL, "sliding_attention": SLIDING}


def _read_qwen3(fields: Fields) -> list[Layer]:
    hidden = fields.size("hidden_size")
    window = fields.window("sliding_window", 4096) if fields.flag("use_sliding_window", False) else None
    first_sliding = fields.size("max_window_layers", 28, minimum=0)
    kinds = fields.layer_types(
        "layer_types",
        lambda index: "sliding_attention" if window and index >= first_sliding else "full_attention",
        _ATTENTION_TYPES,
    )
    feed_forward = _gated_feed_forward(hidden, fields.size("intermediate_size"))
    bias = fields.flag("attention_bias", False)

    def attention(kind: str) -> Attention:
        return _attention(fields, head_dim=128, bias=bias, head_norms=True, window=window if kind == SLIDING else None)

    return [Layer(kind, (attention(kind), feed_forward), 2 * hidden) for kind in kinds]


def _read_gemma3(fields: Fields) -> list[Layer]:
    hidden, window = fields.size("hidden_size"), fields.size("sliding_window", 4096)
    pattern = fields.size("sliding_window_pattern", 6)
    kinds = fields.layer_types(
        "layer_types",
        lambda index: "sliding_attention" if (index + 1) % pattern else "full_attention",
        _ATTENTION_TYPES,
    )
    feed_forward = _gated_feed_forward(hidden, fields.size("intermediate_size"))
    bias = fields.flag("attention_bias", False)

    def attention(kind: str) -> Attention:
        return _attention(fields, head_dim=256, bias=bias, head_norms=True, window=window if kind == SLIDING else None)

    return [Layer(kind, (attention(kind), feed_forward), 4 * hidden) for kind in kinds]


_NEMOTRON_TYPES = {
    **{"M": MAMBA2, "*": FULL, "-": MLP, "E": EXPERTS},
    **{"linear_attention": MAMBA2, "full_attention": FULL, "mlp": MLP, "moe": EXPERTS},
    **{"mamba": MAMBA2, "attention": FULL},
}


def _read_nemotron_h(fields: Fields) -> list[Layer]:
    hidden, bias = fields.size("hidden_size"), fields.flag("mlp_bias", False)
    listed = next((name for name in ("layers_block_type", "layer_types") if fields.config.get(name)), None)
    kinds = fields.layer_types(listed or "hybrid_override_pattern", None, _NEMOTRON_TYPES)

    def feed_forward(inner: int) -> tuple[Projection, ...]:
        return (Projection("up", hidden, inner, bias), Projection("down", inner, hidden, bias))

    def component(kind: str) -> Component:
        if kind == FULL:
            return _attention(fields, head_dim=128, bias=fields.flag("attention_bias", False))
        if kind == MLP:
            return FeedForward(projections=feed_forward(fields.size("intermediate_size")))
        if kind == MAMBA2:
            return _mamba2(
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


def _read_falcon_h1(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("mamba_n_heads")
    inner = fields.size("mamba_d_ssm", fields.size("mamba_expand", 2) * hidden)
    mamba = _mamba2(
        fields,
        heads=heads,
        head_dim=_head_dim(fields, inner, heads),
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
    attention = _attention(fields, bias=fields.flag("attention_bias", False))
    feed_forward = _gated_feed_forward(hidden, fields.size("intermediate_size"), fields.flag("mlp_bias", False))
    layer = Layer(f"{FULL} and {MAMBA2} in parallel", (attention, mamba, feed_forward), 2 * hidden)
    return [layer] * fields.size("num_hidden_layers")


def _head_dim(fields: Fields, inner: int, heads: int) -> int:
    """Mamba's head size, which some configurations leave to be computed."""
    auto = fields.config.get("mamba_d_head", "auto") in ("auto", None)
    head_dim = inner // heads if auto else fields.size("mamba_d_head")
    if heads * head_dim != inner:
        raise fields.fault("mamba_d_head", f"{heads} heads of {head_dim} do not make the inner size of {inner}")
    return head_dim


def _read_mamba1(fields: Fields) -> list[Layer]:
    hidden = fields.size("hidden_size")
    rank = fields.config.get("time_step_rank", "auto")
    mamba = _mamba1(
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


def _read_mamba2(fields: Fields) -> list[Layer]:
    hidden, heads, head_dim = fields.size("hidden_size"), fields.size("num_heads"), fields.size("head_dim")
    inner = fields.size("expand", 2) * hidden
    if heads * head_dim != inner:
        raise fields.fault("head_dim", f"{heads} heads of {head_dim} do not make expand × hidden_size = {inner}")
    bias = fields.flag("use_bias", False)
    mamba = _mamba2(
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


_LINEAR_TYPES = {"linear_attention": DELTA, "full_attention": FULL}


def _read_olmo_hybrid(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    key_dim = int(0.75 * hidden / fields.size("linear_num_key_heads", heads))
    kinds = fields.layer_types(
        "layer_types", lambda index: "full_attention" if index % 4 == 3 else "linear_attention", _LINEAR_TYPES
    )
    parts: dict[str, Component] = {
        FULL: _attention(fields, bias=fields.flag("attention_bias", False), full_width_norms=True),
        DELTA: _gated_delta_net(
            fields,
            {
                "key_heads": heads,
                "value_heads": heads,
                "key_dim": key_dim,
                "value_dim": 2 * fields.size("linear_key_head_dim", key_dim),
            },
        ),
    }
    feed_forward = _gated_feed_forward(hidden, fields.size("intermediate_size"))
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
        FULL: _attention(fields, head_dim=256, bias=bias, head_norms=True, gated=True),
        DELTA: _gated_delta_net(fields, defaults),
    }
    return [Layer(kind, (parts[kind], feed_forward(index)), 2 * hidden) for index, kind in enumerate(kinds)]


def _read_qwen3_next(fields: Fields) -> list[Layer]:
    hidden, experts = fields.size("hidden_size"), fields.size("num_experts", minimum=0)
    dense_layers = fields.config.get("mlp_only_layers") or []
    sparse_step = fields.size("decoder_sparse_step", 1)

    def feed_forward(index: int) -> Component:
        if index in dense_layers or experts == 0 or (index + 1) % sparse_step:
            return _gated_feed_forward(hidden, fields.size("intermediate_size"))
        return MixtureOfExperts(
            experts=experts,
            active=fields.size("num_experts_per_tok"),
            expert=_gated_projections(hidden, fields.size("moe_intermediate_size")),
            projections=(
                Projection("router", hidden, experts),
                *_gated_projections(hidden, fields.size("shared_expert_intermediate_size")),
                Projection("gate of the shared expert", hidden, 1),
            ),
        )

    return _qwen_hybrid(fields, feed_forward)


def _read_qwen3_5(fields: Fields) -> list[Layer]:
    feed_forward = _gated_feed_forward(fields.size("hidden_size"), fields.size("intermediate_size"))
    return _qwen_hybrid(fields, lambda index: feed_forward)


def _read_jamba(fields: Fields) -> list[Layer]:
    hidden, inner = fields.size("hidden_size"), fields.size("intermediate_size")
    state, rank = fields.size("mamba_d_state", 16), fields.config.get("mamba_dt_rank", "auto")
    rank = math.ceil(hidden / 16) if rank == "auto" else fields.size("mamba_dt_rank")
    bias = fields.flag("mamba_proj_bias", False)
    scan = _mamba1(
        fields,
        inner=fields.size("mamba_expand", 2) * hidden,
        state=state,
        kernel=fields.size("mamba_d_conv", 4),
        rank=rank,
        bias=bias,
        conv_bias=fields.flag("mamba_conv_bias", True),
    )
    attention = _attention(fields)
    norms = FeedForward(vector_parameters=rank + 2 * state)  # Jamba norms the time step, B and C
    experts = fields.size("num_experts", 16)
    sparse = MixtureOfExperts(
        experts=experts,
        active=fields.size("num_experts_per_tok", 2),
        expert=_gated_projections(hidden, inner),
        projections=(Projection("router", hidden, experts),),
    )
    dense = _gated_feed_forward(hidden, inner)
    attention_period, attention_offset = fields.size("attn_layer_period", 8), fields.size("attn_layer_offset", 4, 0)
    expert_period, expert_offset = fields.size("expert_layer_period", 2), fields.size("expert_layer_offset", 1, 0)

    def layer(index: int) -> Layer:
        feed_forward = sparse if experts > 1 and index % expert_period == expert_offset else dense
        if index % attention_period == attention_offset:
            return Layer(FULL, (attention, feed_forward), 2 * hidden)
        return Layer(MAMBA1, (scan, norms, feed_forward), 2 * hidden)

    return [layer(index) for index in range(fields.size("num_hidden_layers"))]


_ZAMBA_TYPES = {"mamba": MAMBA2, "linear_attention": MAMBA2, "hybrid": "hybrid"}


def _read_zamba2(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("n_mamba_heads")
    width = 2 * hidden  # attention reads the layer's input beside the embedding
    inner = fields.size("intermediate_size", 4 * hidden)
    rank, bias = fields.size("adapter_rank", 128), fields.flag("add_bias_linear", False)
    query_heads = fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", query_heads)
    head_dim = width // query_heads
    mamba = _mamba2(
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
    attention_adapters: tuple[Projection, ...] = ()
    if fields.flag("use_shared_attention_adapter", False):
        attention_adapters = tuple(
            projection
            for name in ("query", "key", "value")
            for projection in (Projection(f"{name} in", width, rank), Projection(f"{name} out", rank, width))
        )
    adapters = FeedForward(
        projections=(
            *attention_adapters,
            Projection("gate and up in", hidden, rank),
            Projection("gate and up out", rank, 2 * inner),
            Projection("to the stream", hidden, hidden),
        )
    )

    def hybrid(first: bool) -> tuple[Component, ...]:
        attention = Attention(
            heads=query_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            reuses_weights=not first,
            vector_parameters=width + hidden,  # the norms of the shared block
            projections=(
                Projection("query", width, query_heads * head_dim),
                Projection("key", width, kv_heads * head_dim),
                Projection("value", width, kv_heads * head_dim),
                Projection("output", query_heads * head_dim, hidden),
            ),
        )
        shared = FeedForward(projections=_gated_projections(hidden, inner, bias), reuses_weights=not first)
        return attention, shared, adapters, mamba

    kinds = fields.layer_types("layers_block_type", None, _ZAMBA_TYPES)
    blocks = fields.size("num_mem_blocks", 1)
    layers, hybrids = [], 0
    for kind in kinds:
        if kind == MAMBA2:
            layers.append(Layer(MAMBA2, (mamba,), hidden))
            continue
        layers.append(Layer(f"shared {FULL}, then {MAMBA2}", hybrid(first=hybrids < blocks), hidden))
        hybrids += 1
    return layers


_GRANITE_TYPES = {"mamba": MAMBA2, "linear_attention": MAMBA2, "attention": FULL, "full_attention": FULL}


def _read_granite_hybrid(fields: Fields) -> list[Layer]:
    hidden, heads = fields.size("hidden_size"), fields.size("mamba_n_heads")
    inner = fields.size("mamba_expand", 2) * hidden
    bias = fields.flag("mamba_proj_bias", False)
    parts: dict[str, Component] = {
        FULL: _attention(fields, bias=fields.flag("attention_bias", False)),
        MAMBA2: _mamba2(
            fields,
            heads=heads,
            head_dim=_head_dim(fields, inner, heads),
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
    shared = _gated_feed_forward(hidden, fields.size("shared_intermediate_size"))
    feed_forward: tuple[Component, ...] = (shared,)
    experts = fields.size("num_local_experts", minimum=0)
    if experts:
        routed = MixtureOfExperts(
            experts=experts,
            active=fields.size("num_experts_per_tok"),
            expert=_gated_projections(hidden, fields.size("intermediate_size")),
            projections=(Projection("router", hidden, experts),),
        )
        feed_forward = (routed, shared)
    kinds = fields.layer_types("layer_types", lambda index: "mamba", _GRANITE_TYPES)
    return [Layer(kind, (parts[kind], *feed_forward), 2 * hidden) for kind in kinds]


def _read_lfm2(fields: Fields) -> list[Layer]:
    hidden, kernel = fields.size("hidden_size"), fields.size("conv_L_cache", 3)
    inner = fields.size("block_ff_dim", fields.config.get("intermediate_size"))
    if fields.flag("block_auto_adjust_ff_dim", True):
        inner = int(fields.config.get("block_ffn_dim_multiplier", 1.0) * int(2 * inner / 3))
        multiple = fields.size("block_multiple_of", 256)
        inner = multiple * math.ceil(inner / multiple)
    bias = fields.flag("conv_bias", False)
    parts: dict[str, Component] = {
        FULL: _attention(fields, head_norms=True),
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
    feed_forward = _gated_feed_forward(hidden, inner)
    return [Layer(kind, (parts[kind], feed_forward), 2 * hidden) for kind in kinds]


READERS: dict[str, tuple[Reader, bool]] = {
    "llama": (_read_llama, False),
    "mistral": (_read_mistral, False),
    "hybrid_attention": (_read_hybrid_attention, False),
    "qwen3": (_read_qwen3, False),
    "gemma3_text": (_read_gemma3, True),
    "nemotron_h": (_read_nemotron_h, False),
    "falcon_h1": (_read_falcon_h1, False),
    "mamba": (_read_mamba1, True),
    "falcon_mamba": (_read_mamba1, True),
    "mamba2": (_read_mamba2, False),
    "olmo_hybrid": (_read_olmo_hybrid, False),
    "qwen3_next": (_read_qwen3_next, False),
    "qwen3_5_text": (_read_qwen3_5, False),
    "jamba": (_read_jamba, False),
    "zamba2": (_read_zamba2, True),
    "granitemoehybrid": (_read_granite_hybrid, False),
    "lfm2": (_read_lfm2, True),
}
"""By `model_type`: the reader of its layers, and whether its output head is tied unless the configuration says."""

TEXT_MODELS = {"gemma3": "gemma3_text", "qwen3_5": "qwen3_5_text"}
"""Multimodal configurations whose `text_config` is read: the language model alone is accounted for."""


def read_model(config: Mapping[str, Any], source: str = "config") -> ModelStack:
    """The layer stack of a Hugging Face configuration. `source` names it in messages.

    Raises InputError, one line that names `source` and the field, for an unknown `model_type` or layer type, and for a
    field that is missing or makes no model.
    """
    model_type = config.get("model_type")
    if model_type in TEXT_MODELS and isinstance(config.get("text_config"), Mapping):
        config = {**config["text_config"], "model_type": TEXT_MODELS[model_type]}
        model_type = config["model_type"]
    fields = Fields(config, source)
    if model_type not in READERS:
        raise fields.fault("model_type", f"unknown architecture {model_type!r}; known: {', '.join(READERS)}")
    reader, tied = READERS[model_type]
    layers: Sequence[Layer] = reader(fields)
    tied_field = "tie_embedding" if "tie_embedding" in config else "tie_word_embeddings"
    state_field = {"nemotron_h": "mamba_ssm_cache_dtype", "qwen3_5_text": "mamba_ssm_dtype"}.get(model_type)
    return ModelStack(
        source=source,
        model_type=model_type,
        dtype=_engine_dtype(fields),
        vocabulary=fields.size("vocab_size"),
        hidden=fields.size("hidden_size"),
        layers=tuple(layers),
        tied=fields.flag(tied_field, tied),
        state_dtype=config.get(state_field) if state_field else None,
    )


def load_model(name_or_path: str | Path) -> ModelStack:
    """The layer stack of a model of the zoo, of a JSON file, or of a folder with a `config.json`. Raises InputError."""
    return read_model(load_config(name_or_path), source=str(find_config(name_or_path)))


def _engine_dtype(fields: Fields) -> str:
    """What engines run the model in: the configuration's data type, with float32 lowered to bfloat16 as vLLM does."""
    dtype = fields.config.get("dtype") or fields.config.get("torch_dtype") or "bfloat16"
    if dtype not in BYTES_OF_DTYPE:
        raise fields.fault("dtype", f"unknown data type {dtype!r}; known: {', '.join(BYTES_OF_DTYPE)}")
    return "bfloat16" if dtype == "float32" else dtype
