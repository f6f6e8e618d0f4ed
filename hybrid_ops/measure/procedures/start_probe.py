"""The start probe: how long an engine compiles a model and captures graphs of it, with nothing kept of earlier starts.

It has launches of its own, because all others take what was compiled before, as people do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Metric, latency
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.probe import StartProbe

COMPILE_MS = latency("compile_ms", "Time to compile the model, with nothing kept of earlier starts")
CAPTURE_MS = latency("graph_capture_ms", "Time to capture the CUDA graphs, of the slowest rank")


class StartProbes(Procedure):
    """Times of a cold start. An engine that compiles nothing has no case."""

    name: ClassVar[str] = "start-probe"
    section: ClassVar[str] = "probes"
    definition_type: ClassVar[type[Definition]] = StartProbe
    operations: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[tuple[Metric, ...]] = (COMPILE_MS, CAPTURE_MS)
    fixture: ClassVar[str] = "probe_cell"
    headline: ClassVar[tuple[str, ...]] = (COMPILE_MS.name, CAPTURE_MS.name)
    is_its_own_configuration: ClassVar[bool] = True

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, StartProbe)
        spec = asked.spec()
        if not spec.engine.compiles(spec):
            return []
        cold = asked.spec(environment=spec.engine.without_kept_code)
        return [Case(cold, asked.name, asked.definition, self)]

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        facts = iteration.facts
        if facts.compile_seconds is None or facts.capture_seconds is None:
            lacking = "compiled nothing" if facts.compile_seconds is None else "captured no graph"
            raise NotAMeasurement(f"the engine {lacking}, though its arguments ask for it")
        return {COMPILE_MS.name: 1e3 * facts.compile_seconds, CAPTURE_MS.name: 1e3 * facts.capture_seconds}
