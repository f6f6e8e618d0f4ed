"""Planted faults (`HYBRID_OPS_FAULT`), so that anyone can see the agreement check catch one in a real engine.

Each computes something else than the model, as a hasty optimisation would. `FAULTS` has them by name.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

FAULT_VARIABLE = "HYBRID_OPS_FAULT"


def register() -> None:
    """Plant the fault that the environment names; nothing where it names none. Raises ValueError for another name."""
    name = os.environ.get(FAULT_VARIABLE)
    if not name:
        return
    if name not in FAULTS:
        raise ValueError(f"{FAULT_VARIABLE}: no fault is named {name!r}; there are {', '.join(FAULTS)}")
    FAULTS[name]()


def state_not_carried() -> None:
    """Every part of a prefill begins from an empty state."""
    from vllm.v1.attention.backends.gdn_attn import GDNAttentionMetadataBuilder
    from vllm.v1.attention.backends.mamba1_attn import Mamba1AttentionMetadataBuilder
    from vllm.v1.attention.backends.mamba2_attn import Mamba2AttentionMetadataBuilder

    def without_states(metadata: Any) -> Any:
        for name in ("has_initial_states_p", "has_initial_state", "prefill_has_initial_state"):
            if getattr(metadata, name, None) is not None:
                setattr(metadata, name, getattr(metadata, name).new_zeros(getattr(metadata, name).shape))
        return metadata

    for builder in (GDNAttentionMetadataBuilder, Mamba1AttentionMetadataBuilder, Mamba2AttentionMetadataBuilder):
        _change_result(builder, "build", without_states)


def window_off_by_one() -> None:
    """A sliding window sees one key too few."""

    def shorten(layer: Any) -> None:
        window = layer.impl.sliding_window
        if isinstance(window, tuple):
            layer.impl.sliding_window = (window[0] - 1, *window[1:]) if window[0] > 0 else window
        elif window is not None and window > 1:
            layer.impl.sliding_window = window - 1

    _after_attention_is_made(shorten)


def wrong_heads() -> None:
    """Queries read the keys and values of the next head."""

    def roll(layer: Any, tensor: Any) -> Any:
        heads = tensor.view(*tensor.shape[:-1], layer.num_kv_heads, -1) if tensor.dim() == 2 else tensor
        return heads.roll(1, dims=-2).view(tensor.shape)

    _change_keys_and_values(roll)


def eight_bit_cache() -> None:
    """Keys and values lose all but eight bits before they are kept."""
    import torch

    def cut(layer: Any, tensor: Any) -> Any:
        return tensor.to(torch.float8_e4m3fn).to(tensor.dtype)

    _change_keys_and_values(cut)


def lost_scale() -> None:
    """Attention's scores are not divided by the root of the head's size."""

    def unscale(layer: Any) -> None:
        layer.impl.scale = 1.0

    _after_attention_is_made(unscale)


def zeroed_attention() -> None:
    """Attention computes nothing."""
    import torch
    from vllm.model_executor.layers.attention.attention import Attention

    def nothing(layer: Any, query: Any, key: Any, value: Any, *arguments: Any, **keywords: Any) -> Any:
        return torch.zeros_like(query)

    Attention.forward = nothing


def zeroed_scan() -> None:
    """Mamba-2's convolution and scan compute nothing."""
    from vllm.model_executor.layers.mamba.mamba_mixer2 import MambaMixer2

    def nothing(layer: Any, projected_states: Any, output: Any) -> None:
        output.zero_()

    MambaMixer2.conv_ssm_forward = nothing


def stale_block() -> None:
    """The prefix cache takes any block at the same place for the one that it looks for."""
    from vllm.v1.core import kv_cache_utils

    original = kv_cache_utils.hash_block_tokens

    def place_only(function: Any, parent: Any, tokens: Any, extra_keys: Any = None) -> Any:
        return original(function, parent, [0] * len(tokens), extra_keys)

    kv_cache_utils.hash_block_tokens = place_only


FAULTS: dict[str, Callable[[], None]] = {
    "state-not-carried": state_not_carried,
    "window-off-by-one": window_off_by_one,
    "wrong-heads": wrong_heads,
    "zeroed-attention": zeroed_attention,
    "zeroed-scan": zeroed_scan,
    "stale-block": stale_block,
    "lost-scale": lost_scale,
    "eight-bit-cache": eight_bit_cache,
}


def _change_result(owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return change(method(*arguments, **keywords))

    setattr(owner, name, wrapper)


def _after_attention_is_made(change: Callable[[Any], None]) -> None:
    from vllm.model_executor.layers.attention.attention import Attention

    made = Attention.__init__

    @functools.wraps(made)
    def wrapper(layer: Any, *arguments: Any, **keywords: Any) -> None:
        made(layer, *arguments, **keywords)
        change(layer)

    Attention.__init__ = wrapper


def _change_keys_and_values(change: Callable[[Any, Any], Any]) -> None:
    from vllm.model_executor.layers.attention.attention import Attention

    forward = Attention.forward

    @functools.wraps(forward)
    def wrapper(layer: Any, query: Any, key: Any, value: Any, *arguments: Any, **keywords: Any) -> Any:
        return forward(layer, query, change(layer, key), change(layer, value), *arguments, **keywords)

    Attention.forward = wrapper
