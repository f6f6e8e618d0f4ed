"""What a model is made of: its layers, and what each of them stores, computes and keeps for a sequence.

All counts are closed forms of the configuration's numbers. A FLOP is one floating-point operation: a multiply-add of a
matrix product is 2. Norms, activations, softmax, rotary embeddings and the adding of biases are not counted.

Letters used below: H hidden size; Q, K number of query and of key/value heads; D head size; N state size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

BYTES_OF_DTYPE = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


@dataclass(frozen=True)
class Projection:
    """A dense matrix that every token is multiplied by."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)

    @property
    def flops(self) -> int:
        """FLOPs a token."""
        return 2 * self.inputs * self.outputs


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of a layer. The subclasses add what they keep for a sequence and compute beside their projections."""

    projections: tuple[Projection, ...] = ()
    vector_parameters: int = 0
    """Parameters outside the projections: norms, decay rates, time-step biases, convolution kernels."""
    reuses_weights: bool = False
    """The weights are those of an earlier layer (Zamba2): computed and read again, stored once."""

    @property
    def weights(self) -> int:
        """Parameters that this component holds or borrows."""
        return sum(projection.parameters for projection in self.projections) + self.vector_parameters

    @property
    def parameters(self) -> int:
        """Parameters that this component adds to the model."""
        return 0 if self.reuses_weights else self.weights

    @property
    def active_weights(self) -> int:
        """Parameters that one token is multiplied by."""
        return self.weights

    def weights_read(self, tokens: int) -> float:
        """Parameters read in one step that computes `tokens` tokens."""
        return self.weights

    @property
    def projection_flops(self) -> int:
        """FLOPs of the projections, a token."""
        return sum(projection.flops for projection in self.projections)

    @property
    def convolution_flops(self) -> int:
        """FLOPs of the depthwise convolution, a token."""
        return 0

    @property
    def scan_flops(self) -> int:
        """FLOPs of the recurrence, a token."""
        return 0

    @property
    def convolution_state(self) -> int:
        """Numbers of convolution state a sequence: the last width − 1 inputs of each channel, as vLLM keeps them."""
        return 0

    @property
    def recurrent_state(self) -> int:
        """Numbers of recurrent state a sequence."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Attention(Component):
    """Softmax attention over all earlier tokens, or over the last `window` including the token itself."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None

    @property
    def kv_numbers(self) -> int:
        """Numbers cached a token: one key and one value a key/value head."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def pair_flops(self) -> int:
        """FLOPs a (query, key) pair: 2·D for the score and 2·D for the value, in each query head."""
        return 4 * self.heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class Recurrent(Component):
    """A layer that keeps a state of fixed size. `state_matrices` of them, each `state_rows` × `state_columns`."""

    channels: int
    """Channels of the depthwise convolution."""
    kernel: int
    """Width of the convolution."""
    state_matrices: int = 0
    state_rows: int = 0
    state_columns: int = 0
    heads_field: str = ""
    """The configuration's field that tensor parallelism divides; for messages."""

    @property
    def convolution_flops(self) -> int:
        return 2 * self.channels * self.kernel

    @property
    def convolution_state(self) -> int:
        return (self.kernel - 1) * self.channels

    @property
    def recurrent_state(self) -> int:
        return self.state_matrices * self.state_rows * self.state_columns

    def shard_fault(self, tensor_parallel: int) -> str | None:
        """Why the layer cannot be divided over `tensor_parallel` devices, or None."""
        return _not_divisible(self.heads_field, self.state_matrices, tensor_parallel)

    def shard_state(self, tensor_parallel: int) -> tuple[int, int]:
        """(convolution, recurrent) numbers of state a sequence on each of `tensor_parallel` devices."""
        return self.convolution_state // tensor_parallel, self.recurrent_state // tensor_parallel


@dataclass(frozen=True, kw_only=True)
class Mamba1(Recurrent):
    """Selective scan, one N-vector of state a channel (arXiv 2312.00752, algorithm 2).

    A token costs 5 FLOPs a number of state: decay 1, h += (Δu)⊗B 2, y = C·h 2.
    """

    @property
    def scan_flops(self) -> int:
        return 5 * self.recurrent_state


@dataclass(frozen=True, kw_only=True)
class Mamba2(Recurrent):
    """State-space duality, one D × N state a head (arXiv 2405.21060, section 3): 5 FLOPs a number of state, as Mamba-1.

    Keys and queries (B and C) are shared by the heads of each of `groups` groups.
    """

    groups: int
    groups_field: str = "n_groups"

    @property
    def scan_flops(self) -> int:
        return 5 * self.recurrent_state

    def shard_fault(self, tensor_parallel: int) -> str | None:
        if self.groups > 1 and self.groups % tensor_parallel:
            return f"{self.groups_field}: {self.groups} groups cannot be divided over {tensor_parallel} devices"
        return super().shard_fault(tensor_parallel)

    def shard_state(self, tensor_parallel: int) -> tuple[int, int]:
        # A group that cannot be divided is held by every device, as vLLM's extra_groups_for_head_shards does.
        groups = self.groups if self.groups % tensor_parallel == 0 else tensor_parallel
        inner = self.state_matrices * self.state_rows
        channels = inner + 2 * groups * self.state_columns
        return (self.kernel - 1) * channels // tensor_parallel, self.recurrent_state // tensor_parallel


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(Recurrent):
    """Gated delta rule, one K × V state a value head (arXiv 2412.06464, equation 10).

    A token costs 7 FLOPs a number of state: decay 1, read kᵀS 2, write k⊗r 2, output qᵀS 2.
    """

    key_heads: int

    @property
    def scan_flops(self) -> int:
        return 7 * self.recurrent_state

    def shard_fault(self, tensor_parallel: int) -> str | None:
        fault = _not_divisible("linear_num_key_heads", self.key_heads, tensor_parallel)
        return fault or super().shard_fault(tensor_parallel)


@dataclass(frozen=True, kw_only=True)
class ShortConvolution(Recurrent):
    """A gated depthwise convolution without a recurrence (LFM2): its only state is the convolution's."""

    def shard_fault(self, tensor_parallel: int) -> str | None:
        return _not_divisible("hidden_size", self.channels, tensor_parallel)


@dataclass(frozen=True, kw_only=True)
class FeedForward(Component):
    """A dense feed-forward block, gated or not: its projections say which."""


@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts(Component):
    """A router and `experts` equal experts of which each token uses `active`.

    `projections` are those of every token (the router, shared experts); `expert` are those of one expert.
    """

    experts: int
    active: int
    expert: tuple[Projection, ...]

    @property
    def _expert_weights(self) -> int:
        return sum(projection.parameters for projection in self.expert)

    @property
    def weights(self) -> int:
        return super().weights + self.experts * self._expert_weights

    @property
    def active_weights(self) -> int:
        return super().weights + self.active * self._expert_weights

    def weights_read(self, tokens: int) -> float:
        """The expected number under uniform routing: all miss an expert with odds (1 − active/experts)^tokens."""
        touched = self.experts * (1 - (1 - self.active / self.experts) ** tokens)
        return super().weights + touched * self._expert_weights

    @property
    def projection_flops(self) -> int:
        return super().projection_flops + self.active * sum(projection.flops for projection in self.expert)


@dataclass(frozen=True)
class Layer:
    """One layer of the stack: components that every token passes through, in sequence or in parallel."""

    kind: str
    """In words, such as `full attention`, `mamba-2`, `attention and mamba-2 in parallel`."""
    components: tuple[Component, ...]
    norm_parameters: int
    """Weights of the layer's own norms."""

    @property
    def parameters(self) -> int:
        return self.norm_parameters + sum(component.parameters for component in self.components)


@dataclass(frozen=True)
class ModelStack:
    """A causal language model: embedding, layers, final norm and output head."""

    source: str
    """Where the configuration came from: a file or a name, for messages."""
    model_type: str
    """Hugging Face's name of the architecture."""
    dtype: str
    """The engine's data type of weights and cache."""
    vocabulary: int
    hidden: int
    layers: tuple[Layer, ...]
    tied: bool
    """The output head is the embedding's table."""
    state_dtype: str | None = None
    """The data type that the configuration asks for its recurrent state, if it does."""

    @property
    def components(self) -> Iterator[Component]:
        return (component for layer in self.layers for component in layer.components)

    @cached_property
    def attention(self) -> tuple[Attention, ...]:
        return tuple(part for part in self.components if isinstance(part, Attention))

    @cached_property
    def recurrent(self) -> tuple[Recurrent, ...]:
        return tuple(part for part in self.components if isinstance(part, Recurrent))

    @property
    def head(self) -> Projection:
        """The output head, hidden to vocabulary."""
        return Projection("head", self.hidden, self.vocabulary)

    @cached_property
    def parameters(self) -> int:
        """Parameters of the model as stored: shared weights once, tied weights once."""
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return tables + sum(layer.parameters for layer in self.layers) + self.hidden

    @cached_property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied by: of the layers, the final norm and the head."""
        return self._norms_and_head + sum(part.active_weights for part in self.components)

    @cached_property
    def _norms_and_head(self) -> int:
        return sum(layer.norm_parameters for layer in self.layers) + self.hidden + self.head.parameters

    @cached_property
    def _dense_weights(self) -> int:
        parts = (part for part in self.components if not isinstance(part, MixtureOfExperts))
        return self._norms_and_head + sum(part.weights for part in parts)

    @cached_property
    def _mixtures(self) -> dict[MixtureOfExperts, int]:
        """The distinct mixtures of experts, and how many layers have each."""
        return Counter(part for part in self.components if isinstance(part, MixtureOfExperts))

    def weights_read(self, tokens: int) -> float:
        """Parameters read in one step that computes `tokens` tokens, the embedding's table aside."""
        mixtures = sum(count * part.weights_read(tokens) for part, count in self._mixtures.items())
        return self._dense_weights + mixtures

    @cached_property
    def projection_flops(self) -> int:
        """FLOPs a token of all projections of the layers."""
        return sum(part.projection_flops for part in self.components)

    @cached_property
    def convolution_flops(self) -> int:
        """FLOPs a token of all depthwise convolutions."""
        return sum(part.convolution_flops for part in self.components)

    @cached_property
    def scan_flops(self) -> int:
        """FLOPs a token of all recurrences."""
        return sum(part.scan_flops for part in self.components)

    @cached_property
    def pair_flops(self) -> dict[int | None, int]:
        """FLOPs a (query, key) pair of all layers of one window, by window."""
        return self._by_window(lambda part: part.pair_flops)

    @cached_property
    def kv_numbers(self) -> dict[int | None, int]:
        """Numbers cached a token by all layers of one window, by window."""
        return self._by_window(lambda part: part.kv_numbers)

    def _by_window(self, quantity: Callable[[Attention], int]) -> dict[int | None, int]:
        totals: dict[int | None, int] = {}
        for part in self.attention:
            totals[part.window] = totals.get(part.window, 0) + quantity(part)
        return totals

    @cached_property
    def state_numbers(self) -> tuple[int, int]:
        """(convolution, recurrent) numbers of state a sequence."""
        convolution = sum(part.convolution_state for part in self.recurrent)
        return convolution, sum(part.recurrent_state for part in self.recurrent)

    def kv_bytes_per_token(self, cache_dtype: str | None = None) -> int:
        """Bytes that one more token adds to a sequence's cache: full-attention layers only, without end."""
        return self.kv_numbers.get(None, 0) * BYTES_OF_DTYPE[cache_dtype or self.dtype]

    def window_bytes(self, cache_dtype: str | None = None) -> int:
        """Bytes of cache a sequence in sliding-window layers, once it is longer than their windows."""
        numbers = sum(kept * window for window, kept in self.kv_numbers.items() if window is not None)
        return numbers * BYTES_OF_DTYPE[cache_dtype or self.dtype]

    def recurrent_state_bytes(self, state_dtype: str | None = None) -> int:
        """Bytes of recurrent state a sequence, without the convolutions'. `state_dtype` defaults to the model's."""
        return self.state_numbers[1] * BYTES_OF_DTYPE[state_dtype or self.state_dtype or self.dtype]

    def convolution_state_bytes(self) -> int:
        """Bytes of convolution state a sequence, in the model's data type."""
        return self.state_numbers[0] * BYTES_OF_DTYPE[self.dtype]

    def state_bytes(self, state_dtype: str | None = None) -> int:
        """Bytes of state a sequence, whatever its length: recurrent and convolution."""
        return self.recurrent_state_bytes(state_dtype) + self.convolution_state_bytes()


def _not_divisible(field: str, number: int, tensor_parallel: int) -> str | None:
    if number % tensor_parallel == 0:
        return None
    return f"{field}: {number} cannot be divided over {tensor_parallel} devices"
