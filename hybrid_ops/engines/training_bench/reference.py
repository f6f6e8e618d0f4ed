"""The first steps in float64: the reference layers with the same weights, autograd, and the update written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hybrid_ops.engines.training_bench.data import IGNORED, counted_targets, step_parts
from hybrid_ops.engines.training_bench.plan import LOSS_BOUNDS, NORM_BOUNDS, Plan
from hybrid_ops.engines.training_bench.trainer import BETAS, EPSILON
from hybrid_ops.layers.language_model import from_config


@dataclass(frozen=True)
class Agreement:
    """A trajectory beside that of float64."""

    loss_error: float
    """The largest relative distance of a step's loss."""
    gradient_norm_error: float
    refusal: str | None
    """What is too far off and where; None where everything agrees."""


def reference_steps(config: Any, weights: dict[str, Tensor], plan: Plan) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step of the trajectory.

    Each packed document is computed by itself. Raises ValueError for an architecture that `hybrid_ops.layers` has not.
    """
    model = from_config(config).double()
    model.load_transformers({name: weight.double() for name, weight in weights.items()})
    parameters = list(model.parameters())
    moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in parameters]
    seen = []
    for step in range(plan.steps):
        parts = step_parts(plan, config.vocab_size, step)
        targets = counted_targets(parts)
        for parameter in parameters:
            parameter.grad = None
        loss = 0.0
        for part in parts:
            for tokens, wanted in part.documents():
                logits = model(tokens)[0].flatten(0, 1)
                own = functional.cross_entropy(logits, wanted.flatten(), ignore_index=IGNORED, reduction="sum")
                (own / targets).backward()
                loss += float(own.detach()) / targets
        gradients = [one.grad if one.grad is not None else torch.zeros_like(one) for one in parameters]
        norm = float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt())
        seen.append((loss, norm))
        _update(parameters, gradients, moments, norm, step + 1, plan)
    return seen


@torch.no_grad()
def _update(
    parameters: list[Any],
    gradients: list[Tensor],
    moments: list[tuple[Tensor, Tensor]],
    norm: float,
    step: int,
    plan: Plan,
) -> None:
    """AdamW (arXiv 1711.05101, algorithm 2) or gradient descent, after clipping (arXiv 1211.5063, section 3.2)."""
    scale = 1.0 if plan.clip is None else min(1.0, plan.clip / (norm + 1e-6))
    for parameter, gradient, (first, second) in zip(parameters, gradients, moments):
        gradient = gradient * scale
        if plan.optimizer == "sgd":
            parameter -= plan.learning_rate * (gradient + plan.weight_decay * parameter)
            continue
        parameter *= 1 - plan.learning_rate * plan.weight_decay
        first.lerp_(gradient, 1 - BETAS[0])
        second.lerp_(gradient.square(), 1 - BETAS[1])
        unbiased = first / (1 - BETAS[0] ** step)
        scaled = (second / (1 - BETAS[1] ** step)).sqrt() + EPSILON
        parameter -= plan.learning_rate * unbiased / scaled


def compare(trajectory: list[tuple[float, float]], reference: list[tuple[float, float]], plan: Plan) -> Agreement:
    """Hold losses and gradient norms of the trajectory against float64's, step by step."""
    bounds = (LOSS_BOUNDS[plan.precision], NORM_BOUNDS[plan.precision])
    worst, refusal = [0.0, 0.0], None
    for step, (own, wanted) in enumerate(zip(trajectory, reference, strict=True), start=1):
        for which, name in enumerate(("loss", "gradient norm")):
            error = abs(own[which] - wanted[which]) / abs(wanted[which])
            worst[which] = max(worst[which], error)
            if not error <= bounds[which] and refusal is None:
                refusal = (
                    f"the {name} of step {step} is {own[which]:.6g} where float64 has {wanted[which]:.6g}: "
                    f"{error:.1e} off, and {bounds[which]:.0e} is allowed in {plan.precision}"
                )
    return Agreement(worst[0], worst[1], refusal)
