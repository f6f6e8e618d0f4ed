"""Layers: the reference layers beside their peers, agreed first, then timed round by round."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hybrid_ops.engines.layer_bench.cases import LAYERS
from hybrid_ops.engines.layer_bench.peers import installed_peers
from hybrid_ops.engines.layer_bench.tables import GOALS
from hybrid_ops.engines.protocol import TIME_LAYER
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.claim import Claim
from hybrid_ops.measure.metrics import Direction, Kind, Metric, Scope, latency
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, Summary, workload_of
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.layer import LayerWorkload

OURS = "ours"
TIME = latency("time_ms", "One pass of our form through the layer, with its gradient where the case is backward")


def speedup_name(contender: str) -> str:
    """`vLLM (bf16)` as a metric: `speedup_over_vllm_bf16`."""
    return "speedup_over_" + re.sub(r"[^a-z0-9]+", "_", contender.lower()).strip("_")


PEERS = tuple(
    dict.fromkeys(
        contender.name for layer in LAYERS.values() for contender in layer.contenders if contender.name != OURS
    )
)
SPEEDUPS = {
    peer: Metric(
        speedup_name(peer),
        "ratio",
        Kind.RATIO,
        Direction.HIGHER,
        Scope.DEVICE_CLASS,
        f"The time of {peer} over ours, in the same round: above 1, ours is faster",
    )
    for peer in PEERS
}
"""The metric of each peer, by its name. Not portable: which kernel is the faster depends on the processor's vector unit
(vLLM's bfloat16 kernel of the delta rule takes a quarter of our time on AVX-512 BF16, and twelve times it on AVX2)."""


def _place(case: str, platform: str) -> str:
    """Where a goal holds, in the words of a claim."""
    return f"{case} on {platform}"


class LayerTimes(Procedure):
    """Our form of a layer beside its peers' on the same inputs. Whoever disagrees with float64 has no time."""

    name: ClassVar[str] = "layers"
    section: ClassVar[str] = "layers"
    definition_type: ClassVar[type[Definition]] = LayerWorkload
    operations: ClassVar[frozenset[str]] = frozenset({TIME_LAYER.name})
    metrics: ClassVar[tuple[Metric, ...]] = (TIME, *SPEEDUPS.values())
    fixture: ClassVar[str] = "layer_cell"
    pace: ClassVar[str | None] = TIME.name
    headline: ClassVar[tuple[str, ...]] = (
        TIME.name,
        *dict.fromkeys(speedup_name(peer) for goals in GOALS.values() for _, peer in goals),
    )
    runs_the_model: ClassVar[bool] = False
    is_brief: ClassVar[bool] = True
    details_key: ClassVar[str | None] = "layers"
    claims: ClassVar[tuple[Claim, ...]] = tuple(
        Claim(
            f"{peer} takes at least {goal:.2f} times our time for {case}",
            speedup_name(peer),
            _place(case, platform),
            least=goal,
        )
        for platform, goals in GOALS.items()
        for (case, peer), goal in goals.items()
    )

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, LayerWorkload)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        """Our time, and a ratio for each peer that is installed here."""
        workload = workload_of(case, LayerWorkload)
        here = installed_peers(workload.layer, workload.direction, case.spec.platform)
        return (TIME, *(SPEEDUPS[peer] for peer in here))

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        workload = workload_of(iteration.case, LayerWorkload)
        seen = iteration.worker.ask(
            TIME_LAYER,
            iteration.patience,
            layer=workload.layer,
            direction=workload.direction,
            seed=random.randrange(1 << 30),  # noqa: S311 - the order of a round, not a secret
        )
        if OURS not in seen.seconds:
            raise NotAMeasurement(f"our form: {seen.refused[OURS]}")
        ours = seen.seconds[OURS]
        values: dict[str, Value] = {TIME.name: 1e3 * ours}
        for peer, seconds in seen.seconds.items():
            if peer != OURS:
                values[speedup_name(peer)] = seconds / ours
        for name, error in seen.errors.items():
            values[_error_name(name)] = error
        for name, reason in seen.refused.items():
            values[_refusal_name(name)] = reason
        return values

    def summarize(self, case: Case, iterations: Sequence[Mapping[str, Value]]) -> Summary:
        """The medians; a peer that disagrees is absent, with the size of its error."""
        timed = [{name: value for name, value in one.items() if not isinstance(value, str)} for one in iterations]
        summary = super().summarize(case, timed)
        for peer in PEERS:
            if (reason := iterations[0].get(_refusal_name(peer))) is not None:
                summary.absent[speedup_name(peer)] = str(reason)
        return summary

    def is_claimed(self, claim: Claim, case: Case) -> bool:
        """A goal is for the platform that it was set on."""
        workload = workload_of(case, LayerWorkload)
        return claim.at == _place(f"{workload.layer}/{workload.direction}", case.spec.platform)

    def claim_place(self, case: Case) -> tuple[str, int]:
        return workload_of(case, LayerWorkload).layer, case.spec.model_config()["tokens"]

    def details(self, case: Case) -> dict[str, Any] | None:
        return {**case.workload.model_dump(include={"layer", "direction"}), **case.spec.model_config()}


def _error_name(contender: str) -> str:
    return speedup_name(contender).replace("speedup_over", "relative_error_of")


def _refusal_name(contender: str) -> str:
    return speedup_name(contender).replace("speedup_over", "refusal_of")
