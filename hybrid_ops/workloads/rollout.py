"""Rollouts: several samples of each of a few prompts, over generation lengths, as reinforcement learning draws them."""

from __future__ import annotations

from pydantic import Field

from hybrid_ops.errors import InputError
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.batch import ClosedBatch
from hybrid_ops.workloads.sampling import Sampling
from hybrid_ops.workloads.scaling import least_divisor, scaled_name


class RolloutBatch(ClosedBatch):
    """A closed batch of a rollout, at one generation length."""

    rollout_length: int
    """The generation length before it was scaled to the model's context."""


class Rollout(Definition):
    """A batch of prompts of at most `prompt_tokens` tokens × `samples` each, once for each generation length."""

    prompt_tokens: int = Field(gt=0)
    generation_tokens: list[int] = Field(min_length=1)
    num_prompts: int = Field(gt=0)
    samples: int = Field(gt=0)
    sampling: Sampling = Sampling()
    warmup_iterations: int = Field(default=0, ge=0)
    timed_iterations: int = Field(default=1, gt=0)
    seed: int = 42
    deadline_seconds: float = Field(default=7200.0, gt=0)
    """What one batch may take at least, where that is more than `--perf-deadline` allows."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt included."""
        return self.prompt_tokens + max(self.generation_tokens)

    def scale(self, context: int) -> int:
        """The least power of two by which all lengths are divided, so that the longest sequence fits into `context`.

        Raises InputError when no length is left.
        """
        divisor = least_divisor(self.longest, min(self.prompt_tokens, *self.generation_tokens), context)
        if divisor is None:
            raise InputError(f"a context of {context} tokens holds no rollout of {self.longest} tokens, however scaled")
        return divisor

    def workloads(
        self, name: str, context: int, given_prompts: list[list[int]] | None = None
    ) -> dict[str, RolloutBatch]:
        """The workloads of the rollout `name` on a model of `context` tokens, by name. Raises InputError."""
        divisor = self.scale(context)
        prompt_tokens = self.prompt_tokens // divisor
        shared = self.model_dump(exclude={"generation_tokens", "sampling", "prompt_tokens"})
        return {
            scaled_name(name, length, divisor): RolloutBatch(
                **shared,
                sampling=self.sampling,
                prompt_tokens=prompt_tokens,
                generation_tokens=length // divisor,
                rollout_length=length,
                given_prompts=given_prompts and [prompt[:prompt_tokens] for prompt in given_prompts],
            )
            for length in self.generation_tokens
        }
