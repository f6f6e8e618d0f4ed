"""The KV cache of real engines: its layout, what fits into it, what prefixes it finds, and whether it is as planned."""

import pytest

from hybrid_ops.engines.spec import Case
from hybrid_ops.measure.launch import LaunchRecord
from hybrid_ops.measure.probes import plan_of, planned_figures
from hybrid_ops.plugin import check
from hybrid_ops.regression.cells import CellResult


@pytest.mark.perf
def test_kv_cache(probe_cell: CellResult) -> None:
    check(probe_cell)


@pytest.mark.perf
def test_the_planner_says_what_the_engine_says(cache_plan_cell: tuple[Case, LaunchRecord]) -> None:
    case, launch = cache_plan_cell
    model = case.spec.layer_stack()
    plan = plan_of(case.spec, model, launch.facts)
    planned = planned_figures(model, plan, case.workload.lengths)
    probed = launch.cases[case.id].values
    assert planned == {name: probed[name] for name in planned}
