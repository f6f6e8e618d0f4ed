"""The training step: forward, backward and optimizer, each timed."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.nn import functional

from hybrid_ops.engines.training_bench.data import IGNORED, Part, counted_targets, share, step_parts
from hybrid_ops.engines.training_bench.model import build
from hybrid_ops.engines.training_bench.plan import Plan, Settings

ResultT = TypeVar("ResultT")
EPSILON, BETAS = 1e-8, (0.9, 0.999)
"""Of AdamW."""


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    loss: float
    """Mean over all tokens that have a target, before the update."""
    gradient_norm: float
    """Of all gradients together, before they are clipped."""
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float

    @property
    def seconds(self) -> float:
        return self.forward_seconds + self.backward_seconds + self.optimizer_seconds


class Trainer:
    """A model and its optimizer, in the midst of a training run.

    Args:
        folder: with the model's config.json.
        plan, settings: what is trained, and how.
        rank: which of the data-parallel processes this is.
    """

    def __init__(self, folder: Path, plan: Plan, settings: Settings, rank: int = 0) -> None:
        self.plan, self.settings, self.rank = plan, settings, rank
        self.device = torch.device(settings.device)
        self.model = build(folder, plan, settings)
        self.parameters = list(self.model.parameters())
        self.optimizer = make_optimizer(self.parameters, plan)
        whole = [step_parts(plan, self.model.config.vocab_size, step) for step in range(plan.steps)]
        self.targets = [counted_targets(parts) for parts in whole]
        self.data = [
            [_on(part, self.device) for part in share(parts, plan, rank, settings.processes)] for parts in whole
        ]
        self.called: Any = torch.compile(self.model) if settings.compile else self.model
        if settings.processes > 1:
            self.called = torch.nn.parallel.DistributedDataParallel(self.called)
        self.made = 0
        """Steps so far. After the trajectory its tokens come again."""
        self.keeps_gradients = False
        """Whether gradients are set to zero instead of freed, so that the memory of activations shows by itself."""

    def step(self) -> Step:
        """Make one step and return what it was."""
        place = self.made % self.plan.steps
        parts, targets = self.data[place], self.targets[place]
        self.made += 1
        forward = backward = 0.0
        losses = []
        self.optimizer.zero_grad(set_to_none=not self.keeps_gradients)
        for number, part in enumerate(parts):
            with self._without_exchange(number < len(parts) - 1):
                loss, seconds = self._timed(functools.partial(self._loss, part, targets))
                forward += seconds
                _, seconds = self._timed(loss.backward)
                backward += seconds
            losses.append(loss.detach())
            del loss
        norm, optimizer = self._timed(self._update)
        return Step(self._mean(torch.stack(losses).sum()), float(norm), forward, backward, optimizer)

    def _loss(self, part: Part, targets: int) -> torch.Tensor:
        """This part's share of the loss of the step. Processes average their gradients, so each counts as all."""
        mixed = self.plan.precision == "bfloat16-mixed"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            logits = self.called(**part.inputs(), use_cache=False).logits
        total = functional.cross_entropy(
            logits.float().flatten(0, 1), part.targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return total * (self.settings.processes / targets)

    def _update(self) -> torch.Tensor:
        limit = float("inf") if self.plan.clip is None else self.plan.clip
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        self.optimizer.step()
        return norm

    def _mean(self, loss: torch.Tensor) -> float:
        if self.settings.processes > 1:
            torch.distributed.all_reduce(loss)
            loss = loss / self.settings.processes
        return float(loss)

    def _without_exchange(self, more_follow: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over the processes once a step, after its last part."""
        return self.called.no_sync() if more_follow and self.settings.processes > 1 else contextlib.nullcontext()

    def _timed(self, call: Callable[[], ResultT]) -> tuple[ResultT, float]:
        """What `call` gives and its seconds; on a GPU until it has done the work. A delay is part of them."""
        self._wait()
        start = time.perf_counter()
        result = call()
        self._wait()
        end = time.perf_counter()
        resume = end + self.settings.slow * (end - start)
        while end < resume:  # spinning, because a sleep would let the processor's clock drop
            end = time.perf_counter()
        return result, end - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def make_optimizer(parameters: list[torch.nn.Parameter], plan: Plan) -> torch.optim.Optimizer:
    """The optimizer of a plan, torch's own."""
    if plan.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    return torch.optim.AdamW(
        parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, betas=BETAS, eps=EPSILON
    )


def _on(part: Part, device: torch.device) -> Part:
    return Part(part.tokens.to(device), part.targets.to(device), part.lengths)
