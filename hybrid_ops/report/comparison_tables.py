"""The comparison of full, sliding-window and hybrid attention in words: its tables and claims, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from hybrid_ops.errors import InputError
from hybrid_ops.measure.procedures.comparison import COMPARISON_METRICS
from hybrid_ops.measure.store import write_json
from hybrid_ops.regression.claims import ClaimResult, Outcome
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.comparison import (
    LABELS,
    ComparisonResults,
    Measured,
    comparison_results,
    complete_comparisons,
)
from hybrid_ops.report.numbers import show
from hybrid_ops.report.plots import write_plots
from hybrid_ops.report.render import section_markdown
from hybrid_ops.report.report import Block, Lines, Preformatted, Report, Section, Shown, Table
from hybrid_ops.workloads.comparison import Attention

COMPARISON_SCHEMA_VERSION = 1
PARAMETERS = ("num_prompts", "generation_tokens", "warmup_iterations", "timed_iterations", "seed")


class ComparisonReport(Report):
    """The suite's own table and the claims; a file for each configuration; plots."""

    name: ClassVar[str] = "comparison"

    def section(self, run: RunResults) -> Section | None:
        found = comparison_results(run)
        if not found:
            return None
        blocks: list[Block] = []
        for results in found:
            own = [f"{results.base}: {results.input_note}", "", *seed_table(results)]
            blocks.append(Preformatted(own, Shown.TERMINAL))
            if results.claims:
                blocks.append(Preformatted(claim_lines(results.claims), Shown.TERMINAL))
            blocks += summary_blocks(results)
            blocks.append(Lines(_kernel_notes(results), shown=Shown.TERMINAL))
        return Section("full, sliding-window and hybrid attention", blocks)

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        return write_files(run, folder) if comparison_results(run) else []


def write_files(run: RunResults, folder: Path, file_format: str = "png") -> list[Path]:
    """Write a run's comparisons below `folder`, each base model in a folder of its own where there are several.

    Raises InputError for a run without a whole comparison and for a folder that cannot be written.
    """
    comparisons = complete_comparisons(run)
    written = []
    for results in comparisons:
        target = folder if len(comparisons) == 1 else folder / results.base
        try:
            written += write_results(results, target)
            written += write_plots(results, target / "plots", file_format)
            summary = target / "plots" / "summary.md"
            text = section_markdown(Section("", summary_blocks(results)))
            summary.write_text(f"# Hybrid attention suite\n\n{text}\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error.strerror})") from None
        written.append(summary)
    return written


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
        lines.append(f"{outcomes_together(group)}: {text} ({group[0].metric} {group[0].bound})")
        lines += [f"    input {claim.prompt_tokens}: {ratio_text(claim)}: {claim.outcome.value}" for claim in group]
    return lines


def outcomes_together(group: Sequence[ClaimResult]) -> str:
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


def summary_blocks(results: ComparisonResults) -> list[Block]:
    """The comparison for the summary: the table with memory and percentiles, the claims, the notes."""
    headings = ("Configuration", "Input Len", "Throughput (tok/s)", "Requests/s", "Avg Latency (ms)", "P50", "P90",
                "P99", "KV cache held", "per request", "Model", "Peak")  # fmt: skip
    rows = [
        _summary_row(attention, measured) for attention, group in results.by_attention.items() for measured in group
    ]
    blocks: list[Block] = [
        Lines([f"{results.base}: {results.input_note}."], shown=Shown.SUMMARY),
        Table(headings, rows, shown=Shown.SUMMARY),
    ]
    if results.claims:
        claims = [
            [claim.claim, str(claim.prompt_tokens), claim.bound, ratio_text(claim), claim.outcome.value]
            for claim in results.claims
        ]
        blocks += [
            Lines(["Claims of the hybrid attention suite, as ratios of the hybrid to the other:"], shown=Shown.SUMMARY),
            Table(["Claim", "Input", "Bound", "Ratio", "Here"], claims, shown=Shown.SUMMARY),
        ]
    return [*blocks, Lines(_kernel_notes(results), shown=Shown.SUMMARY)]


def _summary_row(attention: Attention, measured: Measured) -> list[str]:
    latencies = [measured.value(f"{statistic}_e2el_ms") for statistic in ("mean", "median", "p90", "p99")]
    sizes = ("kv_cache_bytes", "kv_cache_bytes_per_request", "model_bytes", "peak_memory_bytes")
    return [
        LABELS[attention],
        input_length(measured),
        f"{measured.value('total_token_throughput'):.1f}",
        f"{measured.value('request_throughput'):.2f}",
        *(f"{latency:.1f}" for latency in latencies),
        *(show(measured.value(name), "B") for name in sizes),
    ]


def _kernel_notes(results: ComparisonResults) -> list[str]:
    return [
        f"{LABELS[attention]} ran on reference kernels for {', '.join(kernels)}: its memory counts fully, its times "
        "are not the engine's."
        for attention, kernels in results.reference_kernels.items()
    ]


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
    run = results.run
    units = {metric.name: metric.unit for metric in COMPARISON_METRICS}
    claims = TypeAdapter(list[ClaimResult]).dump_python(
        list(results.claims) if attention == "hybrid" else [], mode="json"
    )
    return {
        "schema": COMPARISON_SCHEMA_VERSION,
        "configuration": attention,
        "model": group[0].parameters["model"],
        "run_id": run.run_id,
        "device": run.device.model_dump(mode="json", by_alias=True),
        "versions": run.versions,
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
        "claims": claims,
    }
