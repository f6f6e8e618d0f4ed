"""The procedures that the suite knows: each a kind of work, in a file of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hybrid_ops.known import Known
from hybrid_ops.measure.energy import ENERGY_METRICS
from hybrid_ops.measure.metrics import Metric, at_length
from hybrid_ops.measure.procedures.agreement import AgreementCheck
from hybrid_ops.measure.procedures.cache_probe import CacheProbes
from hybrid_ops.measure.procedures.comparison import Comparisons
from hybrid_ops.measure.procedures.generation import Generation
from hybrid_ops.measure.procedures.kernels import Kernels
from hybrid_ops.measure.procedures.layers import LayerTimes
from hybrid_ops.measure.procedures.llama_bench import LlamaBenchTests, WholeGenerations
from hybrid_ops.measure.procedures.prefix_probe import PrefixProbes
from hybrid_ops.measure.procedures.procedure import Procedure
from hybrid_ops.measure.procedures.rollout import Rollouts
from hybrid_ops.measure.procedures.serving import Serving
from hybrid_ops.measure.procedures.start_probe import StartProbes
from hybrid_ops.measure.procedures.training import TrainingSteps
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.suites import SUITES_FILE, Suites, load_suites

PROCEDURES: tuple[Procedure, ...] = (
    Generation(),
    Serving(),
    CacheProbes(),
    PrefixProbes(),
    StartProbes(),
    AgreementCheck(),
    Rollouts(),
    Comparisons(),
    LayerTimes(),
    LlamaBenchTests(),
    WholeGenerations(),
    Kernels(),
    TrainingSteps(),
)
"""The procedures that ship with the suite."""

KNOWN = Known("a procedure", PROCEDURES)
"""Those and the registered ones."""


def register(procedure: Procedure) -> None:
    """Make a further procedure known by its name."""
    KNOWN.register(procedure)


def procedures() -> Iterable[Procedure]:
    """All procedures: those that ship with the suite, then registered ones."""
    return KNOWN


def procedures_for(definition: Definition) -> list[Procedure]:
    """The procedures that measure what a definition of a suites file asks, the one that sees the most first.

    There is another where an engine can be asked the same and tells less of it.
    """
    return [procedure for procedure in procedures() if procedure.definition_type is type(definition)]


def read_suites(path: Path = SUITES_FILE) -> Suites:
    """A suites file with the sections of all procedures. Raises InputError."""
    sections: dict[str, list[type[Definition]]] = {}
    for procedure in procedures():
        kinds = sections.setdefault(procedure.section, [])
        if procedure.definition_type not in kinds:
            kinds.append(procedure.definition_type)
    return load_suites(sections, path)


def find_metric(name: str) -> Metric | None:
    """The metric of this name, such as `output_throughput` or `max_concurrency@4096`; None if no procedure has it."""
    family, _, length = name.partition("@")
    for metrics in (*(procedure.metrics for procedure in procedures()), ENERGY_METRICS):
        for metric in metrics:
            if metric.name == name:
                return metric
            if metric.name == family:
                return at_length(metric, int(length)) if length.isdecimal() else None
    return None


def headline_metrics() -> set[str]:
    """What a short table shows of a case in which nothing is to be said, whatever its kind."""
    return {name for procedure in procedures() for name in procedure.headline}
