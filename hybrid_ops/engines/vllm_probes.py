"""Probes of a running vLLM engine: how it divides its cache, and what its prefix cache finds again.

Part of the vLLM worker, so it imports the standard library and vLLM alone.
"""

from __future__ import annotations

from typing import Any

from hybrid_ops.engines.protocol import CacheLayout, LengthFigures, PrefixSample


def bytes_per_block(layout: Any) -> int:
    """Bytes that one block takes, for all layers of a group, of a scheduler's `KVCacheConfig`.

    Groups overlay one another. Since vLLM 0.29 they do so in one allocation, whose size each of its parts carries; a
    part then has a stride between blocks. Up to 0.28 each layer slot of a group has an allocation of its own, without
    one, unless they are packed into one.
    """
    tensors = layout.kv_cache_tensors
    is_whole = all(tensor.block_stride for tensor in tensors)
    total = max(tensor.size for tensor in tensors) if is_whole else sum(tensor.size for tensor in tensors)
    return total // layout.num_blocks


def layer_specs(group_spec: Any) -> list[Any]:
    """What the layers of a group keep: one spec for each where they differ in width, else the group's own for all."""
    own = getattr(group_spec, "kv_cache_specs", None)  # vLLM's `iter_layer_specs`, which is not there before 0.29
    return [group_spec] if own is None else list(own.values())


def cache_layout(engine: Any, lengths: list[int]) -> CacheLayout:
    """How `engine` divides its cache, and what a sequence of each of `lengths` tokens takes, by vLLM's own rules.

    `bytes_per_token` is what one more token takes in all full-attention layers. The engine's own maximum length does
    not matter.
    """
    from vllm.v1.core.kv_cache_utils import get_kv_cache_capacity
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    config, layout = engine.vllm_config, engine.engine_core.engine_core.scheduler.kv_cache_config
    specs = [(group.kv_cache_spec, len(group.layer_names)) for group in layout.kv_cache_groups]
    own_maximum = config.model_config.max_model_len
    by_length = {}
    try:
        for length in lengths:
            config.model_config.max_model_len = length  # vLLM plans for sequences of this length alone
            blocks = sum(-(-spec.max_memory_usage_bytes(config) // spec.page_size_bytes) for spec, _ in specs)
            _, concurrency = get_kv_cache_capacity(config, layout)
            by_length[str(length)] = LengthFigures(blocks * bytes_per_block(layout), concurrency)
    finally:
        config.model_config.max_model_len = own_maximum
    full_attention = [(spec, layers) for spec, layers in specs if isinstance(spec, FullAttentionSpec)]
    return CacheLayout(
        block_size=config.cache_config.block_size,
        page_bytes=max(part.page_size_bytes for spec, _ in specs for part in layer_specs(spec)),
        num_blocks=layout.num_blocks,
        groups=[(type(spec).__name__, layers) for spec, layers in specs],
        bytes_per_token=sum(layers * spec.page_size_bytes // spec.block_size for spec, layers in full_attention),
        lengths=by_length,
    )


def prefix_hit(engine: Any, first: list[int], second: list[int]) -> PrefixSample:
    """Compute `first` with an empty prefix cache, then `second` with what that left, then `second` with it empty again.

    Returns how many tokens of `second` were found each time, and the logits after it, [vocabulary], with and without
    the cache. The engine must have been started with `logprobs_mode="raw_logits"` and `max_logprobs=-1`.
    """
    engine.reset_prefix_cache()
    _next_logits(engine, "first", first)
    found, with_cache = _next_logits(engine, "second", second)
    engine.reset_prefix_cache()
    again, without_cache = _next_logits(engine, "again", second)
    return PrefixSample(found, again, with_cache, without_cache)


def _next_logits(engine: Any, name: str, prompt: list[int]) -> tuple[int, list[float]]:
    """(tokens found in the prefix cache, logits after the prompt)."""
    from vllm import SamplingParams

    parameters = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True, detokenize=False, logprobs=-1)
    engine.add_request(name, {"prompt_token_ids": prompt}, parameters)
    while engine.has_unfinished_requests():
        outputs = engine.step()
    logits = outputs[0].outputs[0].logprobs[0]
    return outputs[0].num_cached_tokens or 0, [logits[token].logprob for token in sorted(logits)]
