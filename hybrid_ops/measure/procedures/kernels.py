"""Kernels: every contender of an attention kernel or a layer, agreed first, then timed pass by pass."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hybrid_ops.engines.layer_bench.attention import ATTENTION
from hybrid_ops.engines.layer_bench.cases import DIRECTIONS, KERNELS, absent_contenders, contenders
from hybrid_ops.engines.layer_bench.shape import Shape
from hybrid_ops.engines.protocol import TIME_KERNEL, KernelPass, KernelRound
from hybrid_ops.errors import InputError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Direction, Kind, Metric, Scope, exact, latency, rate
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, Summary, workload_of
from hybrid_ops.measure.values import Value
from hybrid_ops.models.zoo import ExpectedFailure
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.kernel import KernelWorkload

CONTENDERS = {
    name: re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    for name in dict.fromkeys(contender.name for kernel in KERNELS.values() for contender in kernel.contenders)
}
"""How the names of metrics spell each contender: `F.sdpa + mask` is `f_sdpa_mask`."""
ROUND = latency("round_ms", "All passes of all contenders that were timed, once each")
BLOCK_SPARSITY = exact("block_sparsity", "%", Scope.PLATFORM, "Blocks of 128 queries and 128 keys that see nothing")
BLOCK_DENSITY = exact("block_density", "%", Scope.PLATFORM, "Blocks that see anything")
EXACT_DENSITY = exact("exact_density", "%", Scope.PLATFORM, "Pairs of a query and a key that it sees")
MASK_METRICS = (BLOCK_SPARSITY, BLOCK_DENSITY, EXACT_DENSITY)
PICTURE = "block_mask"
"""The picture of the mask, among the values of a case."""


def _families(direction: str) -> tuple[Metric, ...]:
    """What is judged of a contender's pass."""
    held = "" if direction == "forward" else ", with its forward pass"
    return (
        latency(f"{direction}_ms", f"Its {direction} pass"),
        rate(f"{direction}_tflops", f"FLOPs of its {direction} pass over the time, by block density", "TF/s"),
        Metric(
            f"{direction}_matmul_share",
            "ratio",
            Kind.RATIO,
            Direction.HIGHER,
            Scope.DEVICE_CLASS,
            f"FLOP/s of its {direction} pass over those of a product of matrices in the same round",
        ),
        Metric(
            f"{direction}_peak_bytes",
            "B",
            Kind.ABSOLUTE,
            Direction.LOWER,
            Scope.DEVICE_CLASS,
            f"Most bytes that its {direction} pass has allocated at one time{held}",
        ),
    )


FAMILIES = {direction: _families(direction) for direction in DIRECTIONS}
FLOPS = {
    direction: exact(f"{direction}_flops", "FLOP", Scope.PLATFORM, f"FLOPs of the {direction} pass, by block density")
    for direction in DIRECTIONS
}


def at_contender(metric: Metric, contender: str) -> Metric:
    """A metric of one contender, such as `forward_ms@flexattention`."""
    return dataclasses.replace(metric, name=f"{metric.name}@{CONTENDERS[contender]}")


class Kernels(Procedure):
    """A kernel and everyone who computes it. Whoever disagrees with float64 has no time."""

    name: ClassVar[str] = "kernels"
    section: ClassVar[str] = "kernels"
    definition_type: ClassVar[type[Definition]] = KernelWorkload
    operations: ClassVar[frozenset[str]] = frozenset({TIME_KERNEL.name})
    metrics: ClassVar[tuple[Metric, ...]] = (
        ROUND,
        *MASK_METRICS,
        *FLOPS.values(),
        *(
            at_contender(metric, contender)
            for direction in DIRECTIONS
            for contender in CONTENDERS
            for metric in FAMILIES[direction]
        ),
    )
    pace: ClassVar[str | None] = ROUND.name
    headline: ClassVar[tuple[str, ...]] = (ROUND.name,)
    runs_the_model: ClassVar[bool] = False
    is_brief: ClassVar[bool] = True
    details_key: ClassVar[str | None] = "kernels"

    def cases(self, asked: Asked) -> list[Case]:
        workload = asked.definition
        assert isinstance(workload, KernelWorkload)
        known = [contender.name for contender in KERNELS[workload.kernel].contenders]
        if unknown := [name for name in workload.contenders or () if name not in known]:
            raise InputError(
                f"kernels.{asked.name}.contenders: {workload.kernel} has no contender {unknown[0]!r}; there are "
                f"{', '.join(known)}"
            )
        return [Case(asked.spec(), asked.name, workload, self)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        """Those of the mask, if it has one, and of each pass of each contender that takes part here."""
        kernel = KERNELS[workload_of(case, KernelWorkload).kernel]
        of_contenders = [
            at_contender(metric, contender)
            for direction in DIRECTIONS
            for contender in _taking_part(case, direction)
            for metric in FAMILIES[direction]
        ]
        return (ROUND, *(MASK_METRICS if kernel.mask is not None else ()), *FLOPS.values(), *of_contenders)

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        workload = workload_of(iteration.case, KernelWorkload)
        seen = iteration.worker.ask(
            TIME_KERNEL,
            iteration.patience,
            kernel=workload.kernel,
            shape=workload.shape(iteration.case.spec.platform),
            contenders=workload.contenders,
            seed=random.randrange(1 << 30),  # noqa: S311 - the order of a round, not a secret
        )
        seconds = [s for timed in seen.passes.values() for s in timed.contenders.seconds.values()]
        values: dict[str, Value] = {ROUND.name: 1e3 * sum(seconds)}
        if (mask := seen.mask) is not None:
            values[BLOCK_SPARSITY.name] = 100 * (1 - mask.block_density)
            values[BLOCK_DENSITY.name] = 100 * mask.block_density
            values[EXACT_DENSITY.name] = 100 * mask.exact_density
            values[PICTURE] = mask.picture
        for direction, timed in seen.passes.items():
            values |= _pass_values(direction, timed, seen)
        return values

    def summarize(self, case: Case, iterations: Sequence[Mapping[str, Value]]) -> Summary:
        """The medians; a contender that disagrees is absent, with the size of its error."""
        words = {name: value for name, value in iterations[0].items() if isinstance(value, str)}
        summary = super().summarize(
            case, [{name: value for name, value in one.items() if name not in words} for one in iterations]
        )
        if PICTURE in words:
            summary.values[PICTURE] = words[PICTURE]
        for direction in DIRECTIONS:
            for contender in CONTENDERS:
                if (reason := words.get(value_name(direction, "refusal", contender))) is not None:
                    for metric in FAMILIES[direction]:
                        summary.absent[at_contender(metric, contender).name] = str(reason)
        return summary

    def known_failure(self, case: Case, metric: Metric) -> ExpectedFailure | None:
        """What a contender is known to be unable to do on the platform."""
        for contender in KERNELS[workload_of(case, KernelWorkload).kernel].contenders:
            for failure in contender.known_failures:
                names = {at_contender(family, contender.name).name for family in FAMILIES[failure.direction]}
                if failure.platform == case.spec.platform and metric.name in names:
                    return ExpectedFailure.model_validate(
                        {"platform": failure.platform, "reason": failure.reason, "matches": failure.matches}
                    )
        return super().known_failure(case, metric)

    def details(self, case: Case) -> dict[str, Any] | None:
        """Kernel, heading, shape, and who takes no part and why."""
        workload = workload_of(case, KernelWorkload)
        kernel, shape = KERNELS[workload.kernel], shape_of(case)
        absent = {
            f"{direction} {name}": reason
            for direction in DIRECTIONS
            for name, reason in absent_contenders(f"{kernel.name}/{direction}", case.spec.platform).items()
        }
        return {
            "kernel": kernel.name,
            "title": kernel.title.format(**dataclasses.asdict(shape)),
            "shape": dataclasses.asdict(shape),
            "has_mask": kernel.mask is not None,
            "is_attention": kernel in ATTENTION,
            "yardsticks": [contender.name for contender in kernel.contenders if contender.is_yardstick],
            "absent": absent,
        }


def shape_of(case: Case) -> Shape:
    """The shape of a case: the model's, with the workload's own fields of the platform."""
    config = {name: value for name, value in case.spec.model_config().items() if name != "model_type"}
    if (tokens := case.spec.engine_arguments.get("tokens")) is not None:
        config["tokens"] = tokens
    return Shape(**{**config, **workload_of(case, KernelWorkload).shape(case.spec.platform)})


def value_name(direction: str, what: str, contender: str) -> str:
    """What a value beside the metrics is called, such as `forward_error@flexattention`."""
    return f"{direction}_{what}@{CONTENDERS[contender]}"


def _taking_part(case: Case, direction: str) -> list[str]:
    """The contenders of a pass that are installed and run here, and that the workload names."""
    workload = workload_of(case, KernelWorkload)
    here = [one.name for one in contenders(f"{workload.kernel}/{direction}", case.spec.platform)]
    return [name for name in here if workload.contenders is None or name in ("ours", *workload.contenders)]


def _pass_values(direction: str, timed: KernelPass, seen: KernelRound) -> dict[str, Value]:
    """Everything about one pass in one round, by the names of metrics and of what is told beside them."""
    values: dict[str, Value] = {}
    matmul_rate = seen.matmul_flops / timed.matmul_seconds
    copy_rate = seen.copied_bytes / timed.copy_seconds
    values[f"{direction}_matmul_tflops"] = matmul_rate / 1e12
    values[f"{direction}_copy_gbps"] = copy_rate / 1e9
    values[FLOPS[direction].name] = timed.flops["ours"]
    for name, seconds in timed.contenders.seconds.items():
        rate_of = timed.flops[name] / seconds
        told = {
            "ms": 1e3 * seconds,
            "tflops": rate_of / 1e12,
            "exact_tflops": timed.exact_flops[name] / seconds / 1e12,
            "matmul_share": rate_of / matmul_rate,
            "peak_bytes": timed.peak_bytes[name],
        }
        if timed.moved_bytes is not None:
            told |= {
                "gbps": timed.moved_bytes / seconds / 1e9,
                "bandwidth_share": timed.moved_bytes / seconds / copy_rate,
            }
        values |= {value_name(direction, what, name): value for what, value in told.items()}
    for name, error in timed.contenders.errors.items():
        values[value_name(direction, "error", name)] = error
        values[value_name(direction, "bound", name)] = timed.contenders.bounds[name]
    for name, reason in timed.contenders.refused.items():
        values[value_name(direction, "refusal", name)] = reason
    return values
