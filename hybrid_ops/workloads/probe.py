"""Probes: questions to a loaded engine that need no load: its cache, what that finds again, and its start."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from pydantic import Field

from hybrid_ops.workloads.base import Workload

Length = Annotated[int, Field(gt=0)]


class CacheProbe(Workload):
    """How the engine divides its cache, and how many sequences of each length fit. The model computes nothing."""

    kind: Literal["cache"]
    lengths: list[Length] = Field(min_length=1)
    """Lengths of sequences in tokens. They may be longer than the engine's own maximum."""
    warmup_iterations: Literal[0] = 0
    timed_iterations: Literal[1] = 1


class StartProbe(Workload):
    """How long the engine compiles the model and captures graphs of it, without what earlier starts have kept."""

    kind: Literal["start"]
    warmup_iterations: Literal[0] = 0
    timed_iterations: Literal[1] = 1


class PrefixProbe(Workload):
    """What the prefix cache finds of a prompt whose first tokens another prompt has had, and what that changes."""

    kind: Literal["prefix"]
    shared_tokens: list[Length] = Field(min_length=1)
    """Lengths of the shared prefix in tokens. At the longest one the cache must find something."""
    own_tokens: Length = 8
    """Tokens of each prompt that follow the shared prefix. Recurrent layers keep the state at a prompt's last whole
    block only, so with more of them than a block holds nothing is found of any prefix."""
    seed: int = 42
    warmup_iterations: Literal[0] = 0
    timed_iterations: Literal[1] = 1

    def prompts(self, shared: int, vocabulary_size: int, first_token: int) -> tuple[list[int], list[int]]:
        """Two prompts of token ids with `shared` tokens in common, the same in every process.

        Tokens are drawn uniformly from `first_token` on; the prompts differ from the token after the prefix on.
        """
        generator = random.Random(f"{self.seed}:{shared}:{self.own_tokens}:{vocabulary_size}")  # noqa: S311
        tokens = range(first_token, vocabulary_size)
        prefix = [generator.choice(tokens) for _ in range(shared)]
        first, second = ([generator.choice(tokens) for _ in range(self.own_tokens)] for _ in range(2))
        if first[0] == second[0]:
            second[0] = tokens[(tokens.index(second[0]) + 1) % len(tokens)]
        return prefix + first, prefix + second
