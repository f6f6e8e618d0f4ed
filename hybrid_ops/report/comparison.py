"""The comparison of full, sliding-window and hybrid attention: what a run has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.regression.claims import ClaimResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.workloads.comparison import ATTENTIONS, Attention

LABELS: dict[Attention, str] = {"full": "Full Attention", "sliding": "Sliding Window", "hybrid": "Hybrid (SSM+SW)"}


@dataclass(frozen=True)
class Measured:
    """One configuration at one input length: what all launches of a run saw."""

    case: str
    parameters: Mapping[str, Any]
    """The workload's fields and the model's name."""
    launches: Sequence[Mapping[str, Any]]
    """The values of each launch by metric."""
    iterations: Sequence[Mapping[str, Any]]
    """Those of each timed iteration of all launches."""

    @property
    def prompt_tokens(self) -> int:
        return self.parameters["prompt_tokens"]

    def value(self, metric: str) -> Any:
        """The median over the launches; of what is no number, the first; None where there is none."""
        known = [values[metric] for values in self.launches if metric in values]
        if not known or isinstance(known[0], str):
            return known[0] if known else None
        return median(known)

    def range(self, metric: str) -> tuple[float, float] | None:
        """The least and the most of all timed iterations."""
        known = [values[metric] for values in self.iterations if metric in values]
        return (min(known), max(known)) if known else None


@dataclass(frozen=True)
class ComparisonResults:
    """The three configurations of one base model in one run, over input lengths."""

    base: str
    by_attention: Mapping[Attention, Sequence[Measured]]
    """Those that were measured, by configuration, in the order of input lengths."""
    claims: Sequence[ClaimResult]
    run: RunResults

    @property
    def input_note(self) -> str:
        """What was run, in words: the parameters, and how the lengths were scaled."""
        described = (_parameters_text(measured) for group in self.by_attention.values() for measured in group)
        return "; ".join(dict.fromkeys(described))

    @property
    def lengths(self) -> list[int]:
        """Input lengths in tokens, ascending."""
        return sorted({measured.prompt_tokens for group in self.by_attention.values() for measured in group})

    @property
    def reference_kernels(self) -> dict[Attention, list[str]]:
        """The operations that a configuration ran on the suite's reference kernels, where it did."""
        found: dict[Attention, list[str]] = {}
        for attention, group in self.by_attention.items():
            names = {measured.parameters["engine"] for measured in group}
            for record in self.run.launches:
                for launch in record.launches:
                    if launch.launch_name in names and launch.reference_kernels:
                        found[attention] = sorted({*found.get(attention, ()), *launch.reference_kernels})
        return found


def comparison_results(run: RunResults) -> list[ComparisonResults]:
    """The comparisons of a run, one a base model, of the cases that have values. Empty without any."""
    found: dict[str, dict[Attention, list[Measured]]] = {}
    for case, parameters in run.details("comparisons").items():
        seen = [launch.cases[case] for launch in run.records_of(case)]
        if seen:
            measured = Measured(
                case,
                parameters,
                [one.values for one in seen],
                [iteration for one in seen for iteration in one.iterations],
            )
            found.setdefault(parameters["base"], {}).setdefault(parameters["attention"], []).append(measured)
    return [
        ComparisonResults(
            base,
            {
                attention: sorted(groups[attention], key=lambda measured: measured.prompt_tokens)
                for attention in ATTENTIONS
                if attention in groups
            },
            [claim for claim in run.claims if claim.base == base],
            run,
        )
        for base, groups in found.items()
    ]


def complete_comparisons(run: RunResults) -> list[ComparisonResults]:
    """The comparisons of a run, each with all three configurations. Raises InputError, naming what is missing."""
    found = comparison_results(run)
    for results in found:
        if missing := [attention for attention in ATTENTIONS if attention not in results.by_attention]:
            raise InputError(f"{results.base}: no results of the configuration {', '.join(missing)}")
    return found


def _parameters_text(measured: Measured) -> str:
    parameters = measured.parameters
    return (
        f"{parameters['num_prompts']} prompts an input length, {parameters['generation_tokens']} tokens generated for "
        f"each, {parameters['warmup_iterations']} warm-up and {parameters['timed_iterations']} timed iterations, "
        f"seed {parameters['seed']}"
    )
