"""Training: one optimizer step, timed by part. A step whose first losses are not float64's has no time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hybrid_ops.engines.protocol import TRAIN, TrainingSample
from hybrid_ops.engines.training_bench.plan import LOSS_BOUNDS, NORM_BOUNDS
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Direction, Kind, Metric, Scope, exact, latency, rate, share_of_peak
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, Summary, workload_of
from hybrid_ops.measure.utilisation import accounted_model
from hybrid_ops.measure.values import Value, refuse_unmeasured
from hybrid_ops.models.training import training_bytes, training_flops
from hybrid_ops.models.zoo import ExpectedFailure
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.training import TrainingWorkload

STEP = latency("step_ms", "One optimizer step: forward, backward and optimizer, over all parts of the batch")
FORWARD = latency("forward_pass_ms", "Forward passes of a step, with the loss")
BACKWARD = latency("backward_pass_ms", "Backward passes of a step")
OPTIMIZER = latency("optimizer_ms", "Norm of the gradient, clipping and the update")
THROUGHPUT = rate("training_throughput", "Tokens of a step over its time")
MFU = share_of_peak("training_mfu", "FLOPs of forward and backward passes a second over the device's peak")
FLOPS = exact("training_flops", "FLOP", Scope.PLATFORM, "FLOPs of forward and backward passes, by our accounting")
COUNTED = exact("counted_flops", "FLOP", Scope.PLATFORM, "FLOPs of a step of one process, by torch's own counter")
WEIGHTS = exact("weight_bytes", "B", Scope.PLATFORM, "Bytes of the weights that are trained")
GRADIENTS = exact("gradient_bytes", "B", Scope.PLATFORM, "Bytes of their gradients")
OPTIMIZER_BYTES = exact("optimizer_bytes", "B", Scope.PLATFORM, "Bytes of what the optimizer keeps")
LOSSES = exact("loss_trajectory", "", Scope.PLATFORM, "Loss of each of the first steps, on seeded data")
NORMS = exact("gradient_norm_trajectory", "", Scope.PLATFORM, "Norm of the gradient in each of the first steps")


def _memory(name: str, description: str) -> Metric:
    return Metric(name, "B", Kind.ABSOLUTE, Direction.LOWER, Scope.DEVICE_CLASS, description)


ACTIVATIONS = _memory(
    "activation_bytes", "Most bytes of forward and backward passes beside weights, gradients and optimizer"
)
PEAK = _memory("training_peak_bytes", "Most bytes at one time in a step, of the first process")
TIMES = (STEP, FORWARD, BACKWARD, OPTIMIZER, THROUGHPUT, MFU)
UNTIMED = tuple(metric.name for metric in (*TIMES, LOSSES, NORMS))
"""What a step has not whose first losses are not float64's."""
TOLD = ("loss_error", "gradient_norm_error")
"""Distances from float64, among the values of a case."""
REFUSAL = "refusal"


class TrainingSteps(Procedure):
    """A training loop on seeded data: agreed with float64 first, timed afterwards."""

    name: ClassVar[str] = "training"
    section: ClassVar[str] = "training"
    definition_type: ClassVar[type[Definition]] = TrainingWorkload
    operations: ClassVar[frozenset[str]] = frozenset({TRAIN.name})
    metrics: ClassVar[tuple[Metric, ...]] = (
        *TIMES, PEAK, ACTIVATIONS, WEIGHTS, GRADIENTS, OPTIMIZER_BYTES, FLOPS, COUNTED, LOSSES, NORMS
    )  # fmt: skip
    pace: ClassVar[str | None] = THROUGHPUT.name
    tokens_value: ClassVar[str | None] = "tokens"
    headline: ClassVar[tuple[str, ...]] = (STEP.name, THROUGHPUT.name, PEAK.name)
    is_brief: ClassVar[bool] = True
    details_key: ClassVar[str | None] = "training"

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, TrainingWorkload)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        """All of them; without our FLOPs where the architecture cannot be accounted for, without torch's where compiled
        code hides its operators. Trajectories have the bound of the case's precision."""
        absent = {FLOPS.name, MFU.name} if accounted_model(case.spec) is None else set()
        absent |= {COUNTED.name} if case.spec.engine_arguments.get("compile") else set()
        precision = _own(case).precision
        bounds = {LOSSES.name: LOSS_BOUNDS[precision], NORMS.name: NORM_BOUNDS[precision]}
        return tuple(
            dataclasses.replace(metric, rounding=bounds.get(metric.name, 0.0))
            for metric in self.metrics
            if metric.name not in absent
        )

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        case = iteration.case
        platform, own = case.spec.platform, _own(case)
        plan = workload_of(case, TrainingWorkload).plan(platform)
        seen = iteration.worker.ask(TRAIN, iteration.patience, plan=plan)
        if plan["reference"] and seen.loss_error is None and seen.refusal is None:
            iteration.note("the reference layers have not this architecture: its losses are held by the baseline alone")
        seconds = seen.forward_seconds + seen.backward_seconds + seen.optimizer_seconds
        tokens = own.batch * own.tokens
        values: dict[str, Value] = {
            STEP.name: 1e3 * seconds,
            FORWARD.name: 1e3 * seen.forward_seconds,
            BACKWARD.name: 1e3 * seen.backward_seconds,
            OPTIMIZER.name: 1e3 * seen.optimizer_seconds,
            THROUGHPUT.name: tokens / seconds,
            "tokens": tokens,
            PEAK.name: seen.memory.peak,
            ACTIVATIONS.name: seen.memory.activations,
            WEIGHTS.name: seen.memory.weights,
            GRADIENTS.name: seen.memory.gradients,
        }
        refuse_unmeasured(values)
        values |= {OPTIMIZER_BYTES.name: seen.memory.optimizer, **_agreement(seen)}
        if seen.flops is not None:
            values[COUNTED.name] = seen.flops
        if (flops := step_flops(case)) is not None:
            values[FLOPS.name] = flops
            if iteration.peaks is not None:
                values[MFU.name] = 100 * flops / seconds / iteration.peaks.peak_flops(self.arithmetic(case))
        return values

    def summarize(self, case: Case, iterations: Sequence[Mapping[str, Value]]) -> Summary:
        """The medians. Where the first steps are not float64's, times and trajectories are absent, with the reason."""
        words = (REFUSAL,)
        summary = super().summarize(case, [{k: v for k, v in one.items() if k not in words} for one in iterations])
        if (reason := iterations[0].get(REFUSAL)) is not None:
            for name in UNTIMED:
                summary.values.pop(name, None)
                summary.absent[name] = str(reason)
        return summary

    def arithmetic(self, case: Case) -> str:
        return "float32" if _own(case).precision == "float32" else "bfloat16"

    def known_failure(self, case: Case, metric: Metric) -> ExpectedFailure | None:
        """Packed documents in the torch code of recurrent layers, which does not know where one ends."""
        model = accounted_model(case.spec)
        packs = _own(case).documents > 1 and case.spec.platform == "cpu"
        if not packs or model is None or not model.recurrent or metric.name not in UNTIMED:
            return super().known_failure(case, metric)
        return ExpectedFailure(
            platform="cpu",
            reason="transformers' torch code of recurrent layers takes no cu_seqlens: documents see each other",
            matches="float64",
        )

    def details(self, case: Case) -> dict[str, Any] | None:
        """What a step is, what it takes by our accounting, and the data set that it is projected to."""
        own, model = _own(case), accounted_model(case.spec)
        arguments = case.spec.engine_arguments
        told: dict[str, Any] = {
            **own.model_dump(include={"batch", "tokens", "accumulation", "precision", "optimizer", "documents"}),
            "processes": arguments.get("processes", 1),
            "compile": arguments.get("compile", False),
            "checkpointing": arguments.get("gradient_checkpointing", False),
            "loss_bound": LOSS_BOUNDS[own.precision],
            "gradient_norm_bound": NORM_BOUNDS[own.precision],
            "dataset": None if own.dataset is None else own.dataset.model_dump(),
        }
        if model is not None:
            at_once = own.batch // own.accumulation // told["processes"]
            least = training_bytes(
                model,
                at_once,
                own.tokens,
                own.precision,
                own.optimizer,
                checkpointing=told["checkpointing"],
                accumulated=own.accumulation > 1,
            )
            told["accounted_bytes"] = {**dataclasses.asdict(least), "total": least.total}
        return told


def step_flops(case: Case) -> int | None:
    """Our FLOPs of one step of a case; None for an architecture that cannot be accounted for.

    Packed documents count as so many of equal length: how they are drawn is the worker's.
    """
    own, model = _own(case), accounted_model(case.spec)
    if model is None:
        return None
    length, longer = divmod(own.tokens, own.documents)
    documents = ([length + 1] * longer + [length] * (own.documents - longer)) * own.batch
    return training_flops(model, own.batch, own.tokens, documents=documents).total


def _own(case: Case) -> TrainingWorkload:
    return workload_of(case, TrainingWorkload).on(case.spec.platform)


def _agreement(seen: TrainingSample) -> dict[str, Value]:
    """The trajectories as text, how far they are from float64, and why the step must not count, if so."""
    values: dict[str, Value] = {LOSSES.name: _text(seen.losses), NORMS.name: _text(seen.gradient_norms)}
    errors = (seen.loss_error, seen.gradient_norm_error)
    values |= {name: error for name, error in zip(TOLD, errors) if error is not None}
    if seen.refusal is not None:
        values[REFUSAL] = seen.refusal
    return values


def _text(numbers: Sequence[float | None]) -> str:
    return " ".join("nan" if number is None else f"{number:.7g}" for number in numbers)
