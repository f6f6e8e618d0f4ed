"""The KV cache of real engines: its layout, what fits into it, what prefixes it finds, and whether it is as planned."""

import pytest

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.procedures.cache_probe import CacheProbes, plan_of, planned_figures
from hybrid_ops.measure.procedures.procedure import workload_of
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.plugin import check
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.workloads.probe import CacheProbe


@pytest.mark.perf
def test_kv_cache(probe_cell: CellResult) -> None:
    check(probe_cell)


@pytest.mark.perf
@pytest.mark.procedure(CacheProbes.name)
def test_the_planner_says_what_the_engine_says(measured_case: tuple[Case, LaunchRecord]) -> None:
    case, launch = measured_case
    model = case.spec.layer_stack()
    assert launch.facts is not None
    plan = plan_of(case.spec, model, launch.facts)
    planned = planned_figures(model, plan, workload_of(case, CacheProbe).lengths)
    probed = launch.cases[case.id].values
    assert planned == {name: probed[name] for name in planned}
