"""The goals of the layers' benchmark are asked of the platform that they were set for."""

from __future__ import annotations

from hybrid_ops.engines.layers import Layers
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.procedures.layers import LayerTimes
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.layer import LayerWorkload


def goals(platform: str) -> list[str]:
    procedure = LayerTimes()
    workload = LayerWorkload(description="", layer="delta_rule", direction="forward")
    spec = EngineSpec("reference-layers", load_zoo()["reference-layers"], platform, Layers())
    case = Case(spec, "delta-rule-forward", workload, procedure)
    return [claim.text for claim in procedure.claims if procedure.is_claimed(claim, case)]


def test_a_goal_of_the_cpu_is_not_asked_of_a_gpu() -> None:
    assert goals("cpu") == [
        "transformers takes at least 1.60 times our time for delta_rule/forward",
        "matmul floor takes at least 0.45 times our time for delta_rule/forward",
    ]
    assert goals("cuda") == []
