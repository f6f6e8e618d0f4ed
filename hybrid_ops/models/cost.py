"""What a workload costs a model: FLOPs and bytes moved, in closed form over its tokens.

What is counted, and what is not:

- FLOPs of the projections, of the depthwise convolutions, of attention over the keys that the mask lets through (half
  of the square, or a band), of the recurrences in their step form, and of the output head for sampled tokens only. A
  chunked scan computes more than the recurrence, and a kernel without a mask the whole square: neither counts, because
  it is the model's work that a utilisation is measured against.
- Bytes of the weights once per step (not once per token), of the embedding rows looked up, of the cached keys and
  values read and written, and of the recurrent and convolution states read and written. Activations are not counted:
  kernels keep them on chip to an extent that is theirs.

The sums over a model's layers are kept with the model, so a cost takes some fifty operations, whatever the number of
tokens, requests and layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from hybrid_ops.models.stack import BYTES_OF_DTYPE, ModelStack


@dataclass(frozen=True)
class Flops:
    """FLOPs by origin."""

    projections: int = 0
    convolution: int = 0
    attention: int = 0
    scan: int = 0
    head: int = 0

    @property
    def total(self) -> int:
        return self.projections + self.convolution + self.attention + self.scan + self.head

    def __add__(self, other: Flops) -> Flops:
        return Flops(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True)
class BytesMoved:
    """Bytes read and written, by origin."""

    weights: int = 0
    cache_read: int = 0
    cache_write: int = 0
    state_read: int = 0
    state_write: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache_read + self.cache_write + self.state_read + self.state_write

    def __add__(self, other: BytesMoved) -> BytesMoved:
        return BytesMoved(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Cost:
    """What one phase of a workload costs, over all devices together."""

    tokens: int
    """Tokens computed."""
    steps: int
    """Forward passes: how often the weights are read."""
    flops: Flops
    bytes: BytesMoved

    @property
    def arithmetic_intensity(self) -> float:
        """FLOPs a byte moved; 0 for a phase without work."""
        return self.flops.total / self.bytes.total if self.bytes.total else 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.tokens + other.tokens, self.steps + other.steps, self.flops + other.flops, self.bytes + other.bytes
        )


@dataclass(frozen=True)
class GenerationCost:
    """A batch from its prompts to its last token."""

    prefill: Cost
    decode: Cost

    @property
    def total(self) -> Cost:
        return self.prefill + self.decode


def attended_pairs(tokens: int, window: int | None) -> int:
    """(query, key) pairs of a causal sequence of `tokens`: the sum over t = 1 … tokens of min(t, window)."""
    if window is None or tokens <= window:
        return tokens * (tokens + 1) // 2
    return window * (window + 1) // 2 + (tokens - window) * window


def attended_keys(tokens: int, window: int | None) -> int:
    """Keys that the newest of `tokens` tokens attends to, itself included."""
    return tokens if window is None else min(tokens, window)


def prefill_cost(
    model: ModelStack,
    batch: int,
    prompt: int,
    *,
    cached: int = 0,
    steps: int = 1,
    cache_dtype: str | None = None,
    state_dtype: str | None = None,
) -> Cost:
    """The cost of computing `batch` prompts of `prompt` tokens and the logits of each one's last token.

    `cached` tokens of each prompt are found in the prefix cache: their keys and values are read, not computed. `steps`
    is the number of forward passes that the tokens are spread over (chunked prefill). Each sequence's keys and values
    are written once and read once, its states written once and, with a cached prefix, read once.

    Raises ValueError when a number is negative or `cached` leaves no token to compute.
    """
    if batch < 0 or steps < 1 or not 0 <= cached < prompt:
        raise ValueError(f"no prefill: batch={batch}, prompt={prompt}, cached={cached}, steps={steps}")
    tokens = batch * (prompt - cached)
    pairs = {window: attended_pairs(prompt, window) - attended_pairs(cached, window) for window in model.pair_flops}
    return Cost(
        tokens=tokens,
        steps=steps,
        flops=_flops(model, tokens, {window: batch * count for window, count in pairs.items()}, sampled=batch),
        bytes=BytesMoved(
            weights=_weight_bytes(model, steps, tokens),
            cache_read=_cache_bytes(
                model, {window: batch * attended_keys(prompt, window) for window in pairs}, cache_dtype
            ),
            cache_write=_cache_bytes(model, dict.fromkeys(pairs, tokens), cache_dtype),
            state_read=batch * model.state_bytes(state_dtype) if cached else 0,
            state_write=batch * model.state_bytes(state_dtype),
        ),
    )


def decode_cost(
    model: ModelStack,
    batch: int,
    prompt: int,
    generation: int,
    *,
    cache_dtype: str | None = None,
    state_dtype: str | None = None,
) -> Cost:
    """The cost of generating `generation` tokens for each of `batch` sequences after prompts of `prompt` tokens.

    The first of them comes out of the prefill, so there are `generation` − 1 steps, each of one token a sequence. The
    step after t earlier tokens reads t + 1 keys and values (or the window's); every step reads and writes the states.

    Raises ValueError when a number is negative or there is no token to generate.
    """
    if batch < 0 or prompt < 1 or generation < 1:
        raise ValueError(f"no decode: batch={batch}, prompt={prompt}, generation={generation}")
    steps = generation - 1
    tokens = batch * steps
    pairs = {
        window: batch * (attended_pairs(prompt + steps, window) - attended_pairs(prompt, window))
        for window in model.pair_flops
    }
    state = tokens * model.state_bytes(state_dtype)
    return Cost(
        tokens=tokens,
        steps=steps,
        flops=_flops(model, tokens, pairs, sampled=tokens),
        bytes=BytesMoved(
            weights=_weight_bytes(model, steps, tokens),
            cache_read=_cache_bytes(model, pairs, cache_dtype),
            cache_write=_cache_bytes(model, dict.fromkeys(pairs, tokens), cache_dtype),
            state_read=state,
            state_write=state,
        ),
    )


def generation_cost(
    model: ModelStack,
    batch: int,
    prompt: int,
    generation: int,
    *,
    cached: int = 0,
    prefill_steps: int = 1,
    cache_dtype: str | None = None,
    state_dtype: str | None = None,
) -> GenerationCost:
    """`prefill_cost` and `decode_cost` of one batch. A generation of 1 has no decode steps."""
    return GenerationCost(
        prefill=prefill_cost(
            model, batch, prompt, cached=cached, steps=prefill_steps, cache_dtype=cache_dtype, state_dtype=state_dtype
        ),
        decode=decode_cost(model, batch, prompt, generation, cache_dtype=cache_dtype, state_dtype=state_dtype),
    )


def _flops(model: ModelStack, tokens: int, pairs: dict[int | None, int], sampled: int) -> Flops:
    return Flops(
        projections=tokens * model.projection_flops,
        convolution=tokens * model.convolution_flops,
        attention=sum(flops * pairs[window] for window, flops in model.pair_flops.items()),
        scan=tokens * model.scan_flops,
        head=sampled * model.head.flops,
    )


def _cache_bytes(model: ModelStack, tokens: dict[int | None, int], cache_dtype: str | None) -> int:
    """Bytes of keys and values of the given number of tokens in the layers of each window."""
    numbers = sum(kept * tokens[window] for window, kept in model.kv_numbers.items())
    return numbers * BYTES_OF_DTYPE[cache_dtype or model.dtype]


def _weight_bytes(model: ModelStack, steps: int, tokens: int) -> int:
    """Bytes of weights read in `steps` equal steps of `tokens` tokens in all, and of the embedding rows looked up."""
    if not steps:
        return 0
    numbers = steps * model.weights_read(math.ceil(tokens / steps)) + tokens * model.hidden
    return round(numbers * BYTES_OF_DTYPE[model.dtype])
