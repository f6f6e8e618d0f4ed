"""Tests of llama-bench: a prompt, a generation, or one after the other, at a depth."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from hybrid_ops.workloads.base import Workload


class LlamaBenchTest(Workload):
    """An entry of the section `llama_bench` of a suites file, in the terms of llama-bench's `-p`, `-n`, `-pg` and `-d`.

    Its prompts are drawn by llama-bench. With both lengths it is a test of `-pg`: the prompt, then the generation, in
    one time. An iteration is one process of llama-bench, which warms up by itself and takes `repetitions` samples.
    """

    prompt_tokens: int = Field(default=0, ge=0)
    generation_tokens: int = Field(default=0, ge=0)
    depth: int = Field(default=0, ge=0)
    """Tokens that the cache holds before the test begins; filling it is not timed."""
    repetitions: int = Field(default=5, gt=0)
    warmup_iterations: int = Field(default=0, ge=0)
    timed_iterations: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.prompt_tokens + self.generation_tokens == 0:
            raise ValueError("prompt_tokens, generation_tokens or both must be above 0")
        return self

    @property
    def label(self) -> str:
        """What llama-bench calls the test: `pp512`, `tg128`, `pp512+tg128`, `tg128 @ d4096`."""
        parts = [f"pp{self.prompt_tokens}"] if self.prompt_tokens else []
        parts += [f"tg{self.generation_tokens}"] if self.generation_tokens else []
        return "+".join(parts) + (f" @ d{self.depth}" if self.depth else "")
