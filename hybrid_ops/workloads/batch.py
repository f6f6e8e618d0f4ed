"""Closed batches: so many prompts at once, and the next batch only when the last one is done."""

from __future__ import annotations

import random

from pydantic import Field

from hybrid_ops.workloads.base import FIRST_ORDINARY_TOKEN, Workload
from hybrid_ops.workloads.sampling import Sampling


class ClosedBatch(Workload):
    """So many prompts of one length, so many generated tokens for each of their samples."""

    prompt_tokens: int = Field(gt=0)
    """Tokens of each prompt; of given ones, the most."""
    generation_tokens: int = Field(gt=0)
    num_prompts: int = Field(default=1, gt=0)
    sampling: Sampling = Sampling()
    seed: int = 42
    samples: int = Field(default=1, gt=0)
    """Generations of each prompt. Those after the first have the seeds that follow."""
    given_prompts: list[list[int]] | None = None
    """Token ids in place of drawn ones."""

    def prompts(self, vocabulary_size: int) -> list[list[int]]:
        """The prompts as token ids, the same in every process: uniform draws from the ordinary tokens, or the given."""
        if self.given_prompts is not None:
            return self.given_prompts
        generator = random.Random(f"{self.seed}:{self.prompt_tokens}:{self.num_prompts}:{vocabulary_size}")  # noqa: S311
        return [
            [generator.randrange(FIRST_ORDINARY_TOKEN, vocabulary_size) for _ in range(self.prompt_tokens)]
            for _ in range(self.num_prompts)
        ]
