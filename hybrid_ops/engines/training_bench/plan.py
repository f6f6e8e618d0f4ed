"""What is asked of a training loop."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

PRECISIONS = ("float32", "bfloat16", "bfloat16-mixed")
"""`bfloat16` has everything in bfloat16, also what the optimizer keeps. `bfloat16-mixed` has float32 weights, gradients
and optimizer, and computes in bfloat16 by autocast."""
OPTIMIZERS = ("adamw", "sgd")
LOSS_BOUNDS = {"float32": 1e-4, "bfloat16": 1e-2, "bfloat16-mixed": 1e-2}
"""How far a loss of the trajectory may be from float64's, or from the baseline's, relative. Rounding was seen to make
8e-6 of it in float32 and 6e-3 in bfloat16, in the models of the zoo."""
NORM_BOUNDS = {"float32": 2e-3, "bfloat16": 2e-1, "bfloat16-mixed": 2e-1}
"""How far a gradient norm may be; 2e-4 and 9e-2 were seen."""


@dataclass(frozen=True)
class Plan:
    """One optimizer step, over all processes, and how many of them the trajectory has."""

    batch: int
    """Sequences of an optimizer step."""
    tokens: int
    """Tokens of each sequence."""
    accumulation: int
    """Parts that the batch is computed in, one after another; their gradients add up."""
    precision: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    clip: float | None
    """The gradient is scaled down to this norm; None leaves it as it is."""
    documents: int
    """Documents that each sequence is cut into; with more than one they are packed and do not see each other."""
    steps: int
    """Of the trajectory."""
    seed: int
    reference: bool
    """Whether the trajectory is held against float64."""

    @property
    def is_packed(self) -> bool:
        return self.documents > 1


@dataclass(frozen=True)
class Settings:
    """How the model is run: the arguments of the engine."""

    device: str = "cpu"
    compile: bool = False
    gradient_checkpointing: bool = False
    attention: str | None = None
    """transformers' `attn_implementation`; its own choice when None (`sdpa`, where there is attention)."""
    experts: str = "eager"
    """Its `experts_implementation`, for mixtures of experts."""
    processes: int = 1
    """Data-parallel processes, each with its share of the batch."""
    memory_bytes: int | None = None
    """Most bytes that the process may allocate from now on; as many as there are when None."""
    slow: float = 0.0
    """A share of its own time by which every step is made to last longer."""


def read_settings(arguments: dict[str, Any]) -> Settings:
    """The settings of an engine's arguments. Raises ValueError that names what is unknown or wrong."""
    known = {field.name: field for field in dataclasses.fields(Settings)}
    if unknown := sorted(set(arguments) - known.keys()):
        raise ValueError(f"arguments: {', '.join(unknown)}: expected {', '.join(known)}")
    settings = Settings(**arguments)
    if type(settings.processes) is not int or settings.processes < 1:
        raise ValueError(f"arguments: processes: a whole number of at least 1, not {settings.processes!r}")
    if settings.processes > 1 and settings.device != "cpu":
        raise ValueError("arguments: processes: several are for a CPU (gloo); one process has one GPU here")
    return settings


def check_share(plan: Plan, settings: Settings) -> None:
    """Raise ValueError where the batch cannot be divided evenly over its parts and the processes."""
    parts = plan.accumulation * settings.processes
    if plan.batch % parts:
        raise ValueError(
            f"batch: {plan.batch} sequences cannot be divided over accumulation {plan.accumulation} × "
            f"{settings.processes} processes"
        )
