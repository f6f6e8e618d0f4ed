"""The prefix probe: what an engine's prefix cache finds again, and that a hit changes no logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from hybrid_ops.engines.protocol import PROBE_PREFIX
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Metric, Scope, at_length, exact
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, workload_of
from hybrid_ops.measure.values import NotAMeasurement, Value
from hybrid_ops.workloads.base import FIRST_ORDINARY_TOKEN, Definition
from hybrid_ops.workloads.probe import PrefixProbe

LOGIT_ERROR = 1e-4
"""Largest difference of float32 logits with and without a hit, relative to the largest logit. Sums of another order
differ by some 1e-6."""
PREFIX_METRICS_AT = (
    exact("prefix_hit_tokens", "tokens", Scope.PLATFORM, "Tokens found of a prompt that shares so many with another"),
    exact("prefix_hit_rate", "%", Scope.PLATFORM, "Those tokens over all of that prompt's"),
)
"""For each length of the shared prefix."""


class PrefixProbes(Procedure):
    """Exact hits of a loaded engine's prefix cache."""

    name: ClassVar[str] = "prefix-probe"
    section: ClassVar[str] = "probes"
    definition_type: ClassVar[type[Definition]] = PrefixProbe
    operations: ClassVar[frozenset[str]] = frozenset({PROBE_PREFIX.name})
    metrics: ClassVar[tuple[Metric, ...]] = PREFIX_METRICS_AT
    fixture: ClassVar[str] = "probe_cell"

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, PrefixProbe)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        lengths = workload_of(case, PrefixProbe).shared_tokens
        return tuple(at_length(metric, length) for length in lengths for metric in PREFIX_METRICS_AT)

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        """What is found at each length.

        Raises NotAMeasurement when an emptied cache finds something, when the longest prefix is not found at all, and
        when float32 logits after a hit are not those without one.
        """
        case, probe = iteration.case, workload_of(iteration.case, PrefixProbe)
        vocabulary = case.spec.model_config()["vocab_size"]
        values: dict[str, Value] = {}
        for shared in sorted(probe.shared_tokens):
            first, second = probe.prompts(shared, vocabulary, FIRST_ORDINARY_TOKEN)
            answer = iteration.worker.ask(PROBE_PREFIX, iteration.patience, first=first, second=second)
            if answer.found_when_empty:
                raise NotAMeasurement(f"an emptied prefix cache gave {answer.found_when_empty} tokens")
            if case.spec.engine_arguments.get("dtype") == "float32":
                _compare_logits(answer.with_cache, answer.without_cache, shared)
            values[f"prefix_hit_tokens@{shared}"] = answer.found
            values[f"prefix_hit_rate@{shared}"] = 100 * answer.found / len(second)
        longest = max(probe.shared_tokens)
        if values[f"prefix_hit_tokens@{longest}"] == 0:
            raise NotAMeasurement(f"of {longest} shared tokens the prefix cache found none")
        return values


def _compare_logits(with_cache: list[float], without_cache: list[float], shared: int) -> None:
    if len(with_cache) != len(without_cache):
        raise NotAMeasurement(f"{len(with_cache)} logits with the prefix cache, {len(without_cache)} without it")
    largest = max(map(abs, without_cache))
    error = max(abs(a - b) for a, b in zip(with_cache, without_cache))
    if not error <= LOGIT_ERROR * largest:
        raise NotAMeasurement(
            f"with {shared} shared tokens, logits with the prefix cache differ by {error:.3g} from those without it, "
            f"of which the largest is {largest:.3g}"
        )
