"""The three-way comparison: one base model with full, sliding-window and hybrid attention, over input lengths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from hybrid_ops.errors import InputError
from hybrid_ops.workloads.base import Definition, Workload
from hybrid_ops.workloads.batch import ClosedBatch
from hybrid_ops.workloads.sampling import Sampling
from hybrid_ops.workloads.scaling import least_divisor, scaled_name
from hybrid_ops.yaml_files import StrictModel

Attention = Literal["full", "sliding", "hybrid"]
"""A configuration of the comparison: full attention, a sliding window, or the window and an SSM over the history."""
ATTENTIONS: tuple[Attention, ...] = ("full", "sliding", "hybrid")
Place = Literal["only", "shortest", "between", "longest"]
"""Where an input length stands among those of its comparison."""
Length = Annotated[int, Field(gt=0)]


class ComparedBatch(ClosedBatch):
    """A closed batch of a comparison: one configuration of attention at one input length."""

    base: str
    """Which of the comparison's base models it is put to."""
    attention: Attention
    published_tokens: int
    """The input length before it was scaled to the model's context."""
    place: Place
    is_reduced: bool
    """Whether a platform makes less of the comparison, so that what it counts is the platform's own."""

    undefining: ClassVar[frozenset[str]] = Workload.undefining | {"place", "is_reduced"}
    platform_fields: ClassVar[frozenset[str]] = frozenset({"num_prompts", "warmup_iterations", "timed_iterations"})


class Reduction(StrictModel):
    """What a slow platform makes less of."""

    num_prompts: int | None = Field(default=None, gt=0)
    warmup_iterations: int | None = Field(default=None, ge=0)
    timed_iterations: int | None = Field(default=None, gt=0)


class Comparison(Definition):
    """The same closed batches, one an input length, put to the three models of a base model."""

    has_base_model: ClassVar[bool] = True

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

    def named_models(self) -> Iterable[tuple[str, str]]:
        for base, by_attention in self.models.items():
            for model in sorted(set(by_attention.values())):
                yield f"models.{base}", model

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

    def workloads(self, model: str, platform: str, context: int) -> dict[str, ComparedBatch]:
        """The workloads for one of its models, of `context` tokens, by name; none for another. Raises InputError."""
        known = self.base_of(model)
        if known is None:
            return {}
        base, attention = known
        here = self.on(platform)
        divisor = here.scale(context)
        lengths = sorted(set(here.prompt_tokens))
        shared = here.model_dump(
            exclude={"description", "models", "prompt_tokens", "generation_tokens", "sampling", "reduced"}
        )
        return {
            scaled_name("input", length, divisor): ComparedBatch(
                **shared,
                description=f"{here.description}: {attention}",
                sampling=here.sampling,
                prompt_tokens=length // divisor,
                generation_tokens=here.generation_tokens // divisor,
                base=base,
                attention=attention,
                published_tokens=length,
                place=_place(length, lengths),
                is_reduced=bool(self.reduced),
            )
            for length in lengths
        }


def _place(length: int, lengths: list[int]) -> Place:
    """Where a length stands in a sorted list."""
    if len(lengths) == 1:
        return "only"
    return "shortest" if length == lengths[0] else "longest" if length == lengths[-1] else "between"
