"""Fine-tuning steps: what one optimizer step is, and the data set that its cost is projected to."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hybrid_ops.workloads.base import Workload
from hybrid_ops.yaml_files import StrictModel


class TrainingSizes(StrictModel):
    """Fields of a training workload that have another value on a platform."""

    batch: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=1)
    accumulation: int | None = Field(default=None, gt=0)
    precision: Literal["float32", "bfloat16", "bfloat16-mixed"] | None = None
    documents: int | None = Field(default=None, gt=0)
    reference: bool | None = None


class DataSet(StrictModel):
    """The data set that hours are projected to."""

    examples: int = Field(gt=0)
    """Sequences, each of the workload's length."""
    epochs: int = Field(default=1, gt=0)


class TrainingWorkload(Workload):
    """An entry of the section `training` of a suites file. An iteration is one optimizer step."""

    batch: int = Field(default=32, gt=0)
    """Sequences of an optimizer step, over all processes."""
    tokens: int = Field(default=1024, gt=1)
    """Tokens of each sequence."""
    accumulation: int = Field(default=1, gt=0)
    """Parts that the batch is computed in; their gradients add up."""
    precision: Literal["float32", "bfloat16", "bfloat16-mixed"] = "bfloat16-mixed"
    """`bfloat16-mixed` has float32 weights, gradients and optimizer, and computes in bfloat16."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    """The norm that the gradient is scaled down to; null leaves it as it is."""
    documents: int = Field(default=1, gt=0)
    """Documents that each sequence is cut into. With more than one they are packed and told apart by cu_seqlens."""
    trajectory_steps: int = Field(default=3, gt=1)
    """The first steps, whose losses and gradient norms are compared with the baseline and with float64."""
    reference: bool = True
    """Whether the first steps are held against float64, which is for small models."""
    seed: int = 42
    dataset: DataSet | None = None
    sizes: dict[Literal["cpu", "cuda"], TrainingSizes] = {}
    """By platform, what differs there."""
    warmup_iterations: int = Field(default=1, ge=0)
    """Beyond the steps that the worker makes before it times any."""
    timed_iterations: int = Field(default=5, gt=0)

    undefining: ClassVar[frozenset[str]] = Workload.undefining | {"dataset"}
    platform_fields: ClassVar[frozenset[str]] = frozenset({"sizes"})

    @model_validator(mode="after")
    def _can_be_divided(self) -> Self:
        for platform in ("", *self.sizes):
            own = self.on(platform)
            where = f"sizes.{platform}: " if platform else ""
            if own.batch % own.accumulation:
                raise ValueError(f"{where}batch: {own.batch} sequences cannot be divided into {own.accumulation} parts")
            if own.tokens < 2 * own.documents:
                raise ValueError(f"{where}tokens: {own.tokens} do not make {own.documents} documents of 2 at least")
        return self

    def on(self, platform: str) -> TrainingWorkload:
        """The workload as a platform has it."""
        found = [sizes for name, sizes in self.sizes.items() if name == platform]
        return self.model_copy(update=found[0].model_dump(exclude_none=True)) if found else self

    def plan(self, platform: str) -> dict[str, Any]:
        """What a worker is asked, as `engines.training_bench.plan.Plan` has it."""
        own = self.on(platform)
        names = ("batch", "tokens", "accumulation", "precision", "optimizer", "learning_rate", "weight_decay", "clip")
        plan = {name: getattr(own, name) for name in (*names, "documents", "seed", "reference")}
        return {**plan, "steps": own.trajectory_steps}
