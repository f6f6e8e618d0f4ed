"""A kernel by itself: attention with a mask or a score change, or a layer of hybrid models, pass by pass."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from hybrid_ops.workloads.base import Workload
from hybrid_ops.yaml_files import StrictModel


class KernelShape(StrictModel):
    """Sizes of a kernel's tensors and their type, in place of the benchmark's own."""

    batch: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    heads: int | None = Field(default=None, gt=0)
    head_size: int | None = Field(default=None, gt=0)
    window: int | None = Field(default=None, gt=0)
    """Keys that a query of the sliding window sees, itself among them."""
    prefix: int | None = Field(default=None, gt=0)
    documents: int | None = Field(default=None, gt=0)
    state_size: int | None = Field(default=None, gt=0)
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


class KernelWorkload(Workload):
    """One kernel and everyone who computes it. An iteration is one round, in which each pass of each is timed once."""

    kernel: Literal[
        "causal",
        "alibi",
        "sliding_window",
        "prefix_lm",
        "document",
        "tanh_softcap",
        "tanh_softcap_approximate",
        "ssd",
        "selective_scan",
        "delta_rule",
        "convolution",
    ]
    shapes: dict[Literal["cpu", "cuda"], KernelShape] = {}
    """By platform."""
    contenders: list[str] | None = Field(default=None, min_length=1)
    """Who takes part beside our own form; everyone who can when absent."""
    warmup_iterations: int = Field(default=0, ge=0)
    """Beyond the rounds that the worker makes until nobody gets faster."""
    timed_iterations: int = Field(default=9, gt=0)

    platform_fields: ClassVar[frozenset[str]] = frozenset({"shapes"})

    def shape(self, platform: str) -> dict[str, int | str]:
        """The fields that differ from the benchmark's own on a platform."""
        found = [shape for name, shape in self.shapes.items() if name == platform]
        return found[0].model_dump(exclude_none=True) if found else {}
