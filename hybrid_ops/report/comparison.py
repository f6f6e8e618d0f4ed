"""The comparison of full, sliding-window and hybrid attention: its table, claims and files, from `results.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import COMPARISON_METRICS
from hybrid_ops.measure.store import write_json
from hybrid_ops.models.sizes import format_table
from hybrid_ops.regression.claims import ClaimResult, Outcome
from hybrid_ops.report.numbers import show
from hybrid_ops.workloads.comparison import ATTENTIONS, Attention

LABELS: dict[Attention, str] = {"full": "Full Attention", "sliding": "Sliding Window", "hybrid": "Hybrid (SSM+SW)"}
COMPARISON_SCHEMA_VERSION = 1
PARAMETERS = ("num_prompts", "generation_tokens", "warmup_iterations", "timed_iterations", "seed")


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
    document: Mapping[str, Any]
    """The run's `results.json`."""

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
            for launch in self.document["launches"]:
                if launch["engine"] in names and (kernels := launch["facts"].get("reference_kernels")):
                    found[attention] = sorted({*found.get(attention, ()), *kernels})
        return found


def comparison_results(document: Mapping[str, Any]) -> list[ComparisonResults]:
    """The comparisons of a run, one a base model, of the cases that have values. Empty without any."""
    found: dict[str, dict[Attention, list[Measured]]] = {}
    for case, parameters in document.get("comparisons", {}).items():
        seen = [
            launch["cases"][case]
            for launch in document["launches"]
            if launch.get("cases", {}).get(case, {}).get("values")
        ]
        if seen:
            measured = Measured(
                case,
                parameters,
                [one["values"] for one in seen],
                [iteration for one in seen for iteration in one["iterations"]],
            )
            found.setdefault(parameters["base"], {}).setdefault(parameters["attention"], []).append(measured)
    claims = [ClaimResult.from_json(claim) for claim in document.get("claims", ())]
    return [
        ComparisonResults(
            base,
            {
                attention: sorted(groups[attention], key=lambda measured: measured.prompt_tokens)
                for attention in ATTENTIONS
                if attention in groups
            },
            [claim for claim in claims if claim.base == base],
            document,
        )
        for base, groups in found.items()
    ]


def comparison_text(document: Mapping[str, Any]) -> str:
    """For each base model the table of the hybrid attention suite, and whether its claims hold here."""
    parts = []
    for results in comparison_results(document):
        parts.append("\n".join([f"{results.base}: {results.input_note}", "", *seed_table(results)]))
        if lines := claim_lines(results.claims):
            parts.append("\n".join(lines))
        parts += _kernel_notes(results)
    return "\n\n".join(parts)


def seed_table(results: ComparisonResults) -> list[str]:
    """Configuration, input length, throughput and average latency, line by line in the suite's form."""
    rows = [
        (
            LABELS[attention],
            input_length(measured),
            f"{measured.value('total_token_throughput'):.1f} tok/s",
            f"{measured.value('mean_e2el_ms'):.1f} ms",
        )
        for attention, group in results.by_attention.items()
        for measured in group
    ]
    headings = ("Configuration", "Input Len", "Throughput", "Avg Latency")
    least = (23, 12, 16, 11)
    widths = [max(width, *(len(row[column]) + 2 for row in rows)) for column, width in enumerate(least)]
    widths[-1] -= 2 if widths[-1] > least[-1] else 0
    lines = ["".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in (headings, *rows)]
    return [lines[0], "-" * sum(widths), *lines[1:]]


def input_length(measured: Measured) -> str:
    """`512`, or scaled down `256 (of 512)`."""
    length, published = measured.prompt_tokens, measured.parameters["published_tokens"]
    return str(length) if length == published else f"{length} (of {published})"


def claim_lines(claims: Sequence[ClaimResult]) -> list[str]:
    """Whether each claim holds here, with the ratio at each input length and its interval."""
    lines = []
    for text in dict.fromkeys(claim.claim for claim in claims):
        group = [claim for claim in claims if claim.claim == text]
        lines.append(f"{summary(group)}: {text} ({group[0].metric} {group[0].bound})")
        lines += [f"    input {claim.prompt_tokens}: {ratio_text(claim)}: {claim.outcome.value}" for claim in group]
    return lines


def summary(group: Sequence[ClaimResult]) -> str:
    """What the input lengths of a claim say together: `holds`, or of how many it does."""
    outcomes = [claim.outcome for claim in group]
    if len(set(outcomes)) == 1:
        return outcomes[0].value.upper()
    counted = [f"{outcomes.count(outcome)} {outcome.value}" for outcome in Outcome if outcome in outcomes]
    return f"MIXED ({', '.join(counted)})"


def ratio_text(claim: ClaimResult) -> str:
    """`1.234 (1.100 to 1.384, 3 launches)`, or why there is none."""
    if claim.ratio is None or claim.interval is None:
        return claim.reason or "no launch measured it"
    low, high = claim.interval
    if low == high:
        return f"{claim.ratio:.3f} (exact)"
    launches = f"{len(claim.launches)} launch{'es' if len(claim.launches) > 1 else ''}"
    return f"{claim.ratio:.3f} ({low:.3f} to {high:.3f}, {launches})"


def comparison_markdown(results: ComparisonResults) -> str:
    """The comparison in Markdown: the table with memory and percentiles, the claims, the notes."""
    rows = [["Configuration", "Input Len", "Throughput (tok/s)", "Requests/s", "Avg Latency (ms)", "P50", "P90", "P99",
             "KV cache held", "per request", "Model", "Peak"]]  # fmt: skip
    for attention, group in results.by_attention.items():
        for measured in group:
            latencies = [measured.value(f"{statistic}_e2el_ms") for statistic in ("mean", "median", "p90", "p99")]
            sizes = ("kv_cache_bytes", "kv_cache_bytes_per_request", "model_bytes", "peak_memory_bytes")
            rows.append(
                [
                    LABELS[attention],
                    input_length(measured),
                    f"{measured.value('total_token_throughput'):.1f}",
                    f"{measured.value('request_throughput'):.2f}",
                    *(f"{latency:.1f}" for latency in latencies),
                    *(show(measured.value(name), "B") for name in sizes),
                ]
            )
    lines = [f"## {results.base}: full, sliding-window and hybrid attention", "", f"{results.input_note}.", "",
             format_table(rows)]  # fmt: skip
    if results.claims:
        claims = [["Claim", "Input", "Bound", "Ratio", "Here"]]
        claims += [
            [claim.claim, str(claim.prompt_tokens), claim.bound, ratio_text(claim), claim.outcome.value]
            for claim in results.claims
        ]
        lines += ["", "Claims of the hybrid attention suite, as ratios of the hybrid to the other:", "",
                  format_table(claims)]  # fmt: skip
    return "\n".join([*lines, *(f"\n{note}" for note in _kernel_notes(results))]) + "\n"


def _kernel_notes(results: ComparisonResults) -> list[str]:
    return [
        f"{LABELS[attention]} ran on reference kernels for {', '.join(kernels)}: its memory counts fully, its times "
        "are not the engine's."
        for attention, kernels in results.reference_kernels.items()
    ]


def _parameters_text(measured: Measured) -> str:
    parameters = measured.parameters
    return (
        f"{parameters['num_prompts']} prompts an input length, {parameters['generation_tokens']} tokens generated for "
        f"each, {parameters['warmup_iterations']} warm-up and {parameters['timed_iterations']} timed iterations, "
        f"seed {parameters['seed']}"
    )


def write_results(results: ComparisonResults, folder: Path) -> list[Path]:
    """Write `full_results.json`, `sliding_results.json` and `hybrid_results.json` into `folder`; return their paths."""
    paths = []
    for attention in results.by_attention:
        path = folder / f"{attention}_results.json"
        write_json(path, configuration_document(results, attention))
        paths.append(path)
    return paths


def configuration_document(results: ComparisonResults, attention: Attention) -> dict[str, Any]:
    """One configuration's results: parameters, and for each input length every metric with its launches."""
    group = results.by_attention[attention]
    document = results.document
    units = {metric.name: metric.unit for metric in COMPARISON_METRICS}
    return {
        "schema": COMPARISON_SCHEMA_VERSION,
        "configuration": attention,
        "model": group[0].parameters["model"],
        "run_id": document["run_id"],
        "device": document["device"],
        "versions": document["versions"],
        "parameters": {name: group[0].parameters[name] for name in PARAMETERS},
        "reference_kernels": results.reference_kernels.get(attention, []),
        "results": [
            {
                "case": measured.case,
                "input_len": measured.prompt_tokens,
                "published_input_len": measured.parameters["published_tokens"],
                "output_len": measured.parameters["generation_tokens"],
                "metrics": {
                    name: {
                        "value": measured.value(name),
                        "unit": unit,
                        "launches": [values[name] for values in measured.launches if name in values],
                    }
                    for name, unit in units.items()
                    if measured.value(name) is not None
                },
            }
            for measured in group
        ],
        "claims": [claim.to_json() for claim in results.claims] if attention == "hybrid" else [],
    }


def complete_comparisons(document: Mapping[str, Any]) -> list[ComparisonResults]:
    """The comparisons of a run, each with all three configurations. Raises InputError, naming what is missing."""
    found = comparison_results(document)
    if not found:
        raise InputError("it has no comparison; pytest --perf --perf-suite hybrid-attention makes one")
    for results in found:
        if missing := [attention for attention in ATTENTIONS if attention not in results.by_attention]:
            raise InputError(f"{results.base}: no results of the configuration {', '.join(missing)}")
    return found
