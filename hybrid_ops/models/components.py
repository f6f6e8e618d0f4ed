"""The components that architectures have in common, from the fields of a configuration, and the words for layers."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_ops.models.fields import Fields
from hybrid_ops.models.stack import Attention, FeedForward, GatedDeltaNet, Mamba1, Mamba2, Projection

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


def attention(
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


def gated_feed_forward(hidden: int, inner: int, bias: bool = False) -> FeedForward:
    return FeedForward(projections=gated_projections(hidden, inner, bias))


def gated_projections(hidden: int, inner: int, bias: bool = False) -> tuple[Projection, ...]:
    return (
        Projection("gate", hidden, inner, bias),
        Projection("up", hidden, inner, bias),
        Projection("down", inner, hidden, bias),
    )


def mamba1(fields: Fields, *, inner: int, state: int, kernel: int, rank: int, bias: bool, conv_bias: bool) -> Mamba1:
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


def mamba2(
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


def gated_delta_net(fields: Fields, defaults: Mapping[str, int | None]) -> GatedDeltaNet:
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


def mamba_head_dim(fields: Fields, inner: int, heads: int) -> int:
    """Mamba's head size, which some configurations leave to be computed."""
    auto = fields.config.get("mamba_d_head", "auto") in ("auto", None)
    head_dim = inner // heads if auto else fields.size("mamba_d_head")
    if heads * head_dim != inner:
        raise fields.fault("mamba_d_head", f"{heads} heads of {head_dim} do not make the inner size of {inner}")
    return head_dim
