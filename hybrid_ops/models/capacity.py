"""How many sequences fit: vLLM's cache planning in closed form, without weights or an engine.

vLLM keeps one pool of equal blocks for all layers. Layers that keep the same are put into groups of equal size, a block
holds one page for each layer of a group, and a sequence takes blocks from each group by that group's own rule: one for
every `block_size` tokens (full attention), as many as its window and the tokens in flight span (sliding window), or one
for its state. The pages of attention and of states are made equal by a larger block of tokens and by padding.

The rules were read from vLLM 0.32 (`v1/core/kv_cache_utils.py`, `v1/kv_cache_interface.py`,
`platforms/interface.py::_align_hybrid_block_size`, `model_executor/layers/mamba/mamba_utils.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.models.stack import BYTES_OF_DTYPE, Mamba2, ModelStack

FULL_ATTENTION, SLIDING_WINDOW, STATE = "full attention", "sliding window", "state"


@dataclass(frozen=True)
class PageRules:
    """What vLLM's planning depends on from one release to another."""

    version: tuple[int, int]
    """The first release with these rules."""
    merge_below: Fraction
    """Groups take the larger number of layers when it is below this multiple of the smaller, else the smaller."""
    nemotron_h_state: str
    """The data type of Nemotron-H's recurrent state when neither the engine nor the configuration says."""
    keeps_null_block: bool
    """One block is held back when it is checked that a sequence fits."""
    mamba2_checkpoint: bool
    """With prefix caching, Mamba-2 takes one more state a sequence, written inside a prefill step."""


PAGE_RULES: tuple[PageRules, ...] = (
    PageRules((0, 13), Fraction(5, 4), "float16", keeps_null_block=False, mamba2_checkpoint=False),
    PageRules((0, 18), Fraction(3, 2), "float16", keeps_null_block=False, mamba2_checkpoint=False),
    PageRules((0, 26), Fraction(3, 2), "float32", keeps_null_block=False, mamba2_checkpoint=False),
    PageRules((0, 32), Fraction(3, 2), "float32", keeps_null_block=True, mamba2_checkpoint=True),
)
"""Oldest first. docs/capacity.md has the source of each change."""

LATEST_ENGINE = "0.32"


def page_rules(engine_version: str = LATEST_ENGINE) -> PageRules:
    """The newest rules that are not newer than a vLLM release such as `0.32` or `0.32.0+cpu`. Raises InputError."""
    try:
        major, minor = (int(part) for part in engine_version.split(".")[:2])
    except ValueError:
        message = f"engine version {engine_version!r}: expected a vLLM release such as {LATEST_ENGINE}"
        raise InputError(message) from None
    known = [rules for rules in PAGE_RULES if rules.version <= (major, minor)]
    if not known:
        oldest = ".".join(str(part) for part in PAGE_RULES[0].version)
        raise InputError(f"engine version {engine_version!r}: the page rules before vLLM {oldest} are not known")
    return known[-1]


@dataclass(frozen=True)
class Platform:
    """What vLLM's planning depends on from one kind of device to another."""

    name: str
    block_size: int
    """Tokens a block, and the step by which it is enlarged to hold a state."""
    float32_state: bool
    """Recurrent states are kept in float32 unless 16 bits are asked for. So it is on CPUs with AVX-512 BF16 or AMX."""


PLATFORMS = {
    "cuda": Platform("cuda", 16, float32_state=False),
    "cpu": Platform("cpu", 128, float32_state=True),
}


@dataclass(frozen=True)
class LayerCache:
    """What one layer keeps on one device. Layers that keep the same share groups."""

    kind: str
    """`full attention`, `sliding window` or `state`."""
    bytes: int
    """Bytes a token (attention) or a sequence (state)."""
    window: int | None = None
    states: int = 0
    """States that a sequence takes: its own, and with prefix caching those kept for other sequences to find."""


@dataclass(frozen=True)
class CacheGroup:
    """Layers that share one block table."""

    kind: str
    layers: int
    block_size: int | None
    """Tokens a block; None for states, each of which takes one block."""
    window: int | None
    states: int
    """States that a sequence takes."""

    def blocks(self, length: int, in_flight_tokens: int) -> int:
        """Blocks that a sequence of `length` tokens takes from the pool for this group."""
        if self.block_size is None:
            return self.states
        if self.window is None:
            return -(-length // self.block_size)
        # The window may begin inside a block, hence the one more.
        spanned = min(self.window - 1 + in_flight_tokens, length)
        return -(-spanned // self.block_size) + 1


@dataclass(frozen=True)
class CachePlan:
    """How a device's cache memory is divided, and what fits into it."""

    source: str
    block_size: int
    """Tokens a block of attention."""
    page_bytes: int
    """Bytes a block takes for one layer."""
    bytes_per_block: int
    """Bytes a block takes for all layers of a group."""
    num_blocks: int
    groups: tuple[CacheGroup, ...]
    cache_bytes: int
    state_dtype: str
    prefix_caching: bool
    in_flight_tokens: int
    null_blocks: int
    """Blocks held back when it is checked that a sequence fits."""

    def blocks_per_sequence(self, length: int) -> int:
        """Blocks that one sequence of `length` tokens takes, over all groups."""
        return sum(group.blocks(length, self.in_flight_tokens) for group in self.groups)

    def bytes_per_sequence(self, length: int) -> int:
        """Bytes of cache that one sequence of `length` tokens takes on each device."""
        return self.blocks_per_sequence(length) * self.bytes_per_block

    def max_concurrency(self, length: int) -> float:
        """Sequences of `length` tokens that fit at once, as vLLM reports it (a fraction is part of a sequence).

        Raises InputError when not even one fits.
        """
        if length < 1:
            raise InputError(f"lengths: {length} is not a length in tokens")
        needed = self.blocks_per_sequence(length)
        if needed > self.num_blocks - self.null_blocks:
            needed_bytes = (needed + self.null_blocks) * self.bytes_per_block
            raise InputError(
                f"{self.source}: cache memory: {self.cache_bytes} bytes hold no sequence of {length} tokens, "
                f"which needs {needed_bytes}"
            )
        return self.num_blocks / needed

    def as_dict(self, lengths: Sequence[int]) -> dict[str, Any]:
        """The plan as plain JSON values, with the concurrency at each of `lengths`."""
        return {
            "block_size": self.block_size,
            "page_bytes": self.page_bytes,
            "bytes_per_block": self.bytes_per_block,
            "num_blocks": self.num_blocks,
            "groups": [
                {
                    "kind": group.kind,
                    "layers": group.layers,
                    "block_size": group.block_size,
                    "window": group.window,
                    "states": group.states,
                }
                for group in self.groups
            ],
            "cache_bytes": self.cache_bytes,
            "state_dtype": self.state_dtype,
            "prefix_caching": self.prefix_caching,
            "max_concurrency": {str(length): self.max_concurrency(length) for length in lengths},
        }


def plan_cache(
    model: ModelStack,
    cache_bytes: int,
    *,
    tensor_parallel: int = 1,
    state_dtype: str = "auto",
    cache_dtype: str | None = None,
    prefix_caching: bool = False,
    engine_version: str = LATEST_ENGINE,
    platform: str = "cuda",
    in_flight_tokens: int = 8192,
    prefill_checkpoint: bool | None = None,
) -> CachePlan:
    """How vLLM divides `cache_bytes` of each of `tensor_parallel` devices among the layers of `model`.

    `state_dtype` is that of recurrent states (vLLM's `--mamba-ssm-cache-dtype`), `auto` what the engine would take.
    `in_flight_tokens` are the tokens scheduled but not settled, which sliding windows keep room for: vLLM's batched
    tokens a step, times two under asynchronous scheduling. `prefill_checkpoint` is whether Mamba-2 layers store states
    from within a prefill, which takes one more with prefix caching; None for what the engine's version does.

    Raises InputError for a platform, version or data type that is not known, and when the model cannot be divided over
    the devices or the memory holds no block.
    """
    rules = page_rules(engine_version)
    if prefill_checkpoint is not None:
        rules = replace(rules, mamba2_checkpoint=prefill_checkpoint)
    if platform not in PLATFORMS:
        raise InputError(f"platform {platform!r}: unknown; known: {', '.join(PLATFORMS)}")
    if tensor_parallel < 1:
        raise InputError(f"tensor parallel: {tensor_parallel} is not a number of devices")
    dtype = engine_state_dtype(model, state_dtype, engine_version, platform)
    caches = _layer_caches(model, tensor_parallel, dtype, cache_dtype, rules, prefix_caching)
    block_size, page_bytes = _page(model, PLATFORMS[platform].block_size, caches)
    groups = _groups(caches, block_size, rules)
    bytes_per_block = max(group.layers for group in groups) * page_bytes
    num_blocks = cache_bytes // bytes_per_block
    if num_blocks < 1:
        raise InputError(
            f"{model.source}: cache memory: {cache_bytes} bytes hold no block, which takes {bytes_per_block}"
        )
    return CachePlan(
        source=model.source,
        block_size=block_size,
        page_bytes=page_bytes,
        bytes_per_block=bytes_per_block,
        num_blocks=num_blocks,
        groups=groups,
        cache_bytes=cache_bytes,
        state_dtype=dtype,
        prefix_caching=prefix_caching,
        in_flight_tokens=in_flight_tokens,
        null_blocks=1 if rules.keeps_null_block else 0,
    )


def cache_memory(model: ModelStack, gpu_memory: int, utilization: float = 0.9, tensor_parallel: int = 1) -> int:
    """Bytes left for the cache on each device: its memory times `utilization`, less its share of the weights.

    Activations and CUDA graphs are not subtracted (vLLM measures them when it starts), so this is an upper bound.
    Raises InputError when the weights leave nothing.
    """
    weights = -(-model.parameters * BYTES_OF_DTYPE[model.dtype] // tensor_parallel)
    left = int(gpu_memory * utilization) - weights
    if left <= 0:
        raise InputError(
            f"{model.source}: gpu memory: {gpu_memory} bytes × {utilization} hold no cache beside {weights} of weights"
        )
    return left


def _layer_caches(
    model: ModelStack,
    tensor_parallel: int,
    state_dtype: str,
    cache_dtype: str | None,
    rules: PageRules,
    prefix_caching: bool,
) -> list[LayerCache]:
    """What each layer keeps on each of `tensor_parallel` devices: attention layers first, then states.

    Key/value heads are divided over the devices, or repeated when there are fewer; so are Mamba-2's groups. Raises
    InputError that names the field that cannot be divided.
    """
    number_bytes = BYTES_OF_DTYPE[cache_dtype or model.dtype]
    caches = []
    for part in model.attention:
        if part.heads % tensor_parallel:
            raise _undivided(model, "num_attention_heads", part.heads, tensor_parallel)
        if part.kv_heads % tensor_parallel and tensor_parallel % part.kv_heads:
            raise _undivided(model, "num_key_value_heads", part.kv_heads, tensor_parallel)
        kv_heads = max(1, part.kv_heads // tensor_parallel)
        kind = FULL_ATTENTION if part.window is None else SLIDING_WINDOW
        caches.append(LayerCache(kind, 2 * kv_heads * part.head_dim * number_bytes, part.window))
    for layer in model.recurrent:
        if fault := layer.shard_fault(tensor_parallel):
            raise InputError(f"{model.source}: {fault}")
        convolution, recurrent = layer.shard_state(tensor_parallel)
        size = convolution * BYTES_OF_DTYPE[model.dtype] + recurrent * BYTES_OF_DTYPE[state_dtype]
        states = 1
        if prefix_caching:
            states = 3 if rules.mamba2_checkpoint and isinstance(layer, Mamba2) else 2
        caches.append(LayerCache(STATE, size, states=states))
    return caches


def _undivided(model: ModelStack, field: str, heads: int, tensor_parallel: int) -> InputError:
    return InputError(f"{model.source}: {field}: {heads} cannot be divided over {tensor_parallel} devices")


def _page(model: ModelStack, block_size: int, caches: Sequence[LayerCache]) -> tuple[int, int]:
    """(tokens a block, bytes a page): the page of attention is enlarged in steps of a block until it holds a state."""
    tokens = {cache.bytes for cache in caches if cache.kind != STATE}
    state = max((cache.bytes for cache in caches if cache.kind == STATE), default=0)
    if not tokens:
        return block_size, state
    if len(tokens) > 1:
        raise InputError(f"{model.source}: num_key_value_heads: attention layers of unequal width are not planned for")
    token = tokens.pop()
    block_size *= max(1, -(-state // (block_size * token)))
    return block_size, block_size * token


def _groups(caches: Sequence[LayerCache], block_size: int, rules: PageRules) -> tuple[CacheGroup, ...]:
    """Equal layers divided into groups of one size, which a kind's last groups need not fill."""
    kinds: Mapping[LayerCache, int] = Counter(caches)
    least, most = min(kinds.values()), max(kinds.values())
    size = most if most < rules.merge_below * least else least
    groups: list[CacheGroup] = []
    for cache, count in kinds.items():
        number = -(-count // size)
        tokens = None if cache.kind == STATE else block_size
        # Layers are dealt out in turn: where they do not divide, the first groups have one more.
        counts = [len(range(index, count, number)) for index in range(number)]
        groups.extend(CacheGroup(cache.kind, layers, tokens, cache.window, cache.states) for layers in counts)
    return tuple(groups)


def engine_state_dtype(
    model: ModelStack, asked: str = "auto", engine_version: str = LATEST_ENGINE, platform: str = "cuda"
) -> str:
    """The data type in which the engine keeps recurrent states when `asked` for one (`auto`: its own choice).

    Raises InputError for a data type or version that is not known.
    """
    known = [dtype for dtype, size in BYTES_OF_DTYPE.items() if size in (2, 4)]
    if asked not in ("auto", *known):
        raise InputError(f"state dtype {asked!r}: unknown; known: auto, {', '.join(known)}")
    if PLATFORMS[platform].float32_state:
        # vLLM keeps what is asked where the configuration lists linear-attention layers. Hugging Face's Falcon-H1 lists
        # its layers as hybrid, and ours lists none.
        listed = model.model_type not in ("falcon_h1", "hybrid_attention")
        return asked if asked != "auto" and listed else "float32"
    if asked != "auto":
        return asked
    if model.state_dtype is not None:
        return model.state_dtype
    return page_rules(engine_version).nemotron_h_state if model.model_type == "nemotron_h" else model.dtype
