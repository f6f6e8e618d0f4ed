"""Hypothesis strategies for the inputs of recurrent layers, the hard ones above all.

A strategy draws shapes, a seed and *regimes*; the tensors come from torch, in float64, by plain functions that other
tests call as well. Random keys hide almost every
numerical fault of a chunked delta rule, so the regimes draw near-identical keys, zero vectors, writing strengths of
exactly 2, and decays from none to total.
"""

from dataclasses import dataclass, replace

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

LENGTHS = st.sampled_from([1, 2, 3, 5, 8, 16, 17, 31, 33, 48, 65])
"""Lengths on both sides of every boundary that a chunked form has: chunks of 16 rows to invert, of 32 and of 64."""

SHORT_SEGMENTS = 5000
"""Chunked forms walk through segments of this many elements in tests: a few chunks, so that the short sequences of the
tests have more than one segment, and segments more than one chunk."""

KEY_REGIMES = ("random", "near-identical", "some-zero", "one-hot", "large", "tiny")
STRENGTH_REGIMES = ("below-one", "up-to-two", "edges")
DECAY_REGIMES = ("none", "weak", "medium", "strong", "mixed", "resets")


def examples(quick: int) -> settings:
    """For a costly property: this many examples in the quick profile of 60, as large a share of the thorough one."""
    return settings(max_examples=max(settings().max_examples * quick // 60, 1))


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call of a recurrent layer."""

    sequences: dict[str, Tensor]  # each [B, T, ...]
    parameters: dict[str, Tensor]  # those that do not depend on time
    state: Tensor  # [B, ...], the initial state

    @property
    def tokens(self) -> int:
        return next(iter(self.sequences.values())).shape[1]

    @property
    def batch(self) -> int:
        return self.state.shape[0]

    def to(self, dtype: torch.dtype) -> "Inputs":
        return self.map(lambda tensor: tensor.to(dtype), lambda state: state.to(dtype))

    def map(self, change, change_state) -> "Inputs":
        sequences = {name: change(tensor) for name, tensor in self.sequences.items()}
        parameters = {name: tensor.to(next(iter(sequences.values())).dtype) for name, tensor in self.parameters.items()}
        return Inputs(sequences, parameters, change_state(self.state))

    def rows(self, index) -> "Inputs":
        """Some rows of the batch, in the given order."""
        return self.map(lambda tensor: tensor[index], lambda state: state[index])

    def slice(self, start: int, end: int | None = None) -> "Inputs":
        """The tokens from start to end; the state stays."""
        return self.map(lambda tensor: tensor[:, start:end], lambda state: state)

    def with_state(self, state: Tensor) -> "Inputs":
        return replace(self, state=state)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def keys(generator: torch.Generator, regime: str, batch: int, tokens: int, heads: int, size: int) -> Tensor:
    random = _normal(generator, batch, tokens, heads, size)
    if regime == "near-identical":
        return _normal(generator, batch, 1, heads, size) + 1e-3 * random
    if regime == "some-zero":
        return random * (_uniform(generator, batch, tokens, heads, 1) > 0.4)
    if regime == "one-hot":
        return torch.nn.functional.one_hot(random.argmax(-1), size).double()
    return random * {"random": 1.0, "large": 1e3, "tiny": 1e-4}[regime]


def strengths(generator: torch.Generator, regime: str, *shape: int) -> Tensor:
    """β: in [0, 1], in [0, 2], or one of the edges 0, 1, 1.9 and 2."""
    if regime == "edges":
        return torch.tensor([0.0, 1.0, 1.9, 2.0], dtype=torch.float64)[torch.randint(4, shape, generator=generator)]
    return _uniform(generator, *shape) * {"below-one": 1.0, "up-to-two": 2.0}[regime]


def log_decays(generator: torch.Generator, regime: str, *shape: int) -> Tensor:
    """log α a token: 0; about −0.01, −1 or −30; all of these; or mostly 0 with some −∞ (the state is forgotten)."""
    random = _uniform(generator, *shape)
    if regime == "resets":
        return torch.where(random < 0.2, -torch.inf, 0.0).double()
    if regime == "mixed":
        return -(10.0 ** (4 * random - 2))
    return -random * {"none": 0.0, "weak": 0.02, "medium": 2.0, "strong": 60.0}[regime]


def delta_rule(
    seed: int = 0,
    batch: int = 2,
    tokens: int = 20,
    heads: int = 2,
    group: int = 2,
    key_size: int = 4,
    value_size: int = 3,
    key_regime: str = "random",
    strength_regime: str = "up-to-two",
    decay_regime: str = "medium",
) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    value_heads = heads * group
    return Inputs(
        sequences={
            "query": keys(generator, "random", batch, tokens, heads, key_size),
            "key": keys(generator, key_regime, batch, tokens, heads, key_size),
            "value": _normal(generator, batch, tokens, value_heads, value_size),
            "beta": strengths(generator, strength_regime, batch, tokens, value_heads),
            "log_decay": log_decays(generator, decay_regime, batch, tokens, value_heads),
        },
        parameters={},
        state=_normal(generator, batch, value_heads, key_size, value_size),
    )


def _steps(generator: torch.Generator, *shape: int) -> Tensor:
    """Δ: softplus of a normal, and exactly 0 for one token in eight."""
    return torch.nn.functional.softplus(_normal(generator, *shape)) * (_uniform(generator, *shape) > 0.125)


def ssd(
    seed: int = 0,
    batch: int = 2,
    tokens: int = 20,
    groups: int = 2,
    group: int = 2,
    head_size: int = 3,
    state_size: int = 4,
    decay_regime: str = "medium",
) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    heads = groups * group
    return Inputs(
        sequences={
            "x": _normal(generator, batch, tokens, heads, head_size),
            "B": _normal(generator, batch, tokens, groups, state_size),
            "C": _normal(generator, batch, tokens, groups, state_size),
            "dt": _steps(generator, batch, tokens, heads),
        },
        parameters={"A": log_decays(generator, decay_regime, heads), "D": _normal(generator, heads)},
        state=_normal(generator, batch, heads, head_size, state_size),
    )


def selective_scan(
    seed: int = 0,
    batch: int = 2,
    tokens: int = 20,
    channels: int = 3,
    state_size: int = 4,
    decay_regime: str = "medium",
) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    return Inputs(
        sequences={
            "u": _normal(generator, batch, tokens, channels),
            "B": _normal(generator, batch, tokens, state_size),
            "C": _normal(generator, batch, tokens, state_size),
            "dt": _steps(generator, batch, tokens, channels),
        },
        parameters={"A": log_decays(generator, decay_regime, channels, state_size), "D": _normal(generator, channels)},
        state=_normal(generator, batch, channels, state_size),
    )


def convolution(seed: int = 0, batch: int = 2, tokens: int = 20, channels: int = 3, taps: int = 4) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    return Inputs(
        sequences={"x": _normal(generator, batch, tokens, channels)},
        parameters={"weight": _normal(generator, channels, taps), "bias": _normal(generator, channels)},
        state=_normal(generator, batch, channels, taps - 1),
    )


MAKERS = {"convolution": convolution, "delta_rule": delta_rule, "selective_scan": selective_scan, "ssd": ssd}


def inputs_of(name: str, tokens: st.SearchStrategy[int] = LENGTHS) -> st.SearchStrategy[Inputs]:
    """Inputs of a layer, with drawn shapes, seed and regimes."""
    few, some = st.integers(1, 3), st.integers(1, 6)
    decays = st.sampled_from(DECAY_REGIMES)
    common = {"seed": st.integers(0, 2**31), "batch": few, "tokens": tokens}
    special: dict[str, dict[str, st.SearchStrategy]] = {
        "delta_rule": {
            "heads": st.integers(1, 2),
            "group": few,
            "key_size": st.integers(2, 6),
            "value_size": some,
            "key_regime": st.sampled_from(KEY_REGIMES),
            "strength_regime": st.sampled_from(STRENGTH_REGIMES),
            "decay_regime": decays,
        },
        "ssd": {
            "groups": st.integers(1, 2),
            "group": few,
            "head_size": some,
            "state_size": some,
            "decay_regime": decays,
        },
        "selective_scan": {"channels": some, "state_size": some, "decay_regime": decays},
        "convolution": {"channels": some, "taps": some},
    }
    return st.builds(MAKERS[name], **common, **special[name])
