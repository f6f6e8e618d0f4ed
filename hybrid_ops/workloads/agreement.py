"""Agreement: texts whose tokens an engine is asked to score, along every path that it has."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from pydantic import Field

from hybrid_ops.workloads.base import FIRST_ORDINARY_TOKEN, Workload

Length = Annotated[int, Field(gt=1)]


class Agreement(Workload):
    """Texts of fixed tokens: the engine says how likely it finds each of them, whatever it would have said itself."""

    text_tokens: list[Length] = Field(min_length=1)
    """Lengths of the texts in tokens. The longest should be longer than two blocks of the cache and two windows."""
    generation_tokens: int = Field(default=8, gt=0)
    """Tokens that are generated after each text, to compare decoding with prefill."""
    chunk_tokens: int = Field(default=200, gt=0)
    """Tokens of a prefill in parts; with a prefix cache at least a block."""
    seed: int = 42
    warmup_iterations: Literal[0] = 0
    timed_iterations: Literal[1] = 1

    def texts(self, vocabulary_size: int) -> list[list[int]]:
        """The texts as token ids, the same in every process: uniform draws from the ordinary tokens."""
        generator = random.Random(f"{self.seed}:{self.text_tokens}:{vocabulary_size}")  # noqa: S311
        return [
            [generator.randrange(FIRST_ORDINARY_TOKEN, vocabulary_size) for _ in range(length)]
            for length in self.text_tokens
        ]
