"""The three-way comparison: one base model with full, sliding-window and hybrid attention, over input lengths."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hybrid_ops.errors import InputError
from hybrid_ops.workloads.sampling import Sampling
from hybrid_ops.workloads.scaling import least_divisor
from hybrid_ops.yaml_files import StrictModel

Attention = Literal["full", "sliding", "hybrid"]
"""A configuration of the comparison: full attention, a sliding window, or the window and an SSM over the history."""
ATTENTIONS: tuple[Attention, ...] = ("full", "sliding", "hybrid")
Length = Annotated[int, Field(gt=0)]


class Reduction(StrictModel):
    """What a slow platform makes less of."""

    num_prompts: int | None = Field(default=None, gt=0)
    warmup_iterations: int | None = Field(default=None, ge=0)
    timed_iterations: int | None = Field(default=None, gt=0)


class Comparison(StrictModel):
    """The same closed batches, one an input length, put to the three models of a base model."""

    description: str
    models: dict[str, dict[Attention, str]] = Field(min_length=1)
    """The three models of the zoo of each base model, by a name for that."""
    prompt_tokens: list[Length] = Field(min_length=1)
    """Input lengths. Where the model's context does not hold the longest, all lengths are divided."""
    generation_tokens: int = Field(gt=0)
    num_prompts: int = Field(gt=0)
    """Prompts of each input length."""
    sampling: Sampling = Sampling()
    warmup_iterations: int = Field(default=3, ge=0)
    timed_iterations: int = Field(default=10, gt=0)
    seed: int = 42
    deadline_seconds: float = Field(default=1800.0, gt=0)
    """What one batch may take at least, where that is more than `--perf-deadline` allows."""
    reduced: dict[Literal["cpu", "cuda"], Reduction] = {}
    """What a platform makes less of; a value given on the command line counts on every platform."""

    @field_validator("models")
    @classmethod
    def _are_complete(cls, models: dict[str, dict[Attention, str]]) -> dict[str, dict[Attention, str]]:
        for name, by_attention in models.items():
            if missing := [attention for attention in ATTENTIONS if attention not in by_attention]:
                raise ValueError(f"{name} names no model for {', '.join(missing)}")
        return models

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.prompt_tokens) + self.generation_tokens

    def base_of(self, model: str) -> tuple[str, Attention] | None:
        """(base model, configuration) that a model of the zoo stands for; None for one that is not compared."""
        for base, by_attention in self.models.items():
            for attention, name in by_attention.items():
                if name == model:
                    return base, attention
        return None

    def scale(self, context: int) -> int:
        """The power of two that all lengths are divided by on a model of `context` tokens. Raises InputError."""
        divisor = least_divisor(self.longest, min(*self.prompt_tokens, self.generation_tokens), context)
        if divisor is None:
            raise InputError(
                f"a context of {context} tokens holds no input of {max(self.prompt_tokens)} tokens, however scaled"
            )
        return divisor

    def on(self, platform: str) -> Comparison:
        """The comparison as a platform runs it."""
        less = [reduction for name, reduction in self.reduced.items() if name == platform]
        return self.model_copy(update=less[0].model_dump(exclude_none=True)) if less else self
