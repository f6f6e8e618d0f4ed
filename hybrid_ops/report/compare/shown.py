"""A comparison as text, as Markdown and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hybrid_ops.measure.procedures import headline_metrics
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.compare.comparison import Comparison, Row
from hybrid_ops.report.numbers import show
from hybrid_ops.report.render import section_markdown, terminal_lines
from hybrid_ops.report.report import Block, Lines, Section, Table

UNDECIDED = "~"
MOST_NAMES = 8
"""How many missing or refused names are written out; the others are counted, and JSON has all."""


def as_text(comparison: Comparison, every_cell: bool) -> str:
    """The tables and lines of a terminal."""
    section = _section(comparison, every_cell)
    return "\n".join([section.title, *(line for line, _ in terminal_lines(section, is_verbose=False))])


def as_markdown(comparison: Comparison, every_cell: bool) -> str:
    """The same in Markdown."""
    section = _section(comparison, every_cell)
    return f"## {section.title}\n\n{section_markdown(section)}"


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Everything, for JSON."""
    sides = {
        name: {"name": side.name, "device": side.device, "run": side.facts.name, "versions": side.facts.versions}
        for name, side in (("before", comparison.before), ("after", comparison.after))
    }
    lists = ("refused", "only_before", "only_after", "unmeasured")
    return {
        **sides,
        "cells": [vars(row) for row in comparison.rows],
        "geometric_means": [vars(mean) for mean in comparison.means],
        **{name: list(getattr(comparison, name)) for name in lists},
        "differs": comparison.differs,
        "worse": comparison.is_worse,
    }


def _section(comparison: Comparison, every_cell: bool) -> Section:
    before, after = comparison.before, comparison.after
    headline = headline_metrics()
    quiet = (Verdict.PASS, Verdict.INCONCLUSIVE)
    rows = [row for row in comparison.rows if every_cell or row.verdict not in quiet or row.metric in headline]
    headings = ("case", "metric", before.name, after.name, "ratio", "interval", "launches", "verdict")
    blocks: list[Block] = [Table(headings, list(map(_cells, rows)))]
    means = [mean for mean in comparison.means if every_cell or mean.metric in headline]
    if means:
        told = [(mean.model, mean.metric, f"×{mean.ratio:.3f}", str(mean.cases)) for mean in means]
        blocks.append(Table(("model", "metric", "geometric mean", "cases"), told))
    counts = Counter(row.verdict for row in comparison.rows)
    blocks.append(Lines([_count_line(counts), *_lists(comparison), f"differs: {comparison.differs}"]))
    devices = "" if before.device == after.device else f" ({before.device} -> {after.device})"
    return Section(f"{after.name} against {before.name}{devices}", blocks)


def _cells(row: Row) -> tuple[str, ...]:
    interval = "" if row.interval is None else f"{row.interval[0]:.3f}–{row.interval[1]:.3f}"
    return (
        row.case,
        row.metric,
        show(row.before, row.unit),
        show(row.after, row.unit),
        "" if row.ratio is None else f"×{row.ratio:.3f}",
        interval,
        f"{row.launches[0]}+{row.launches[1]}",
        UNDECIDED if row.verdict is Verdict.INCONCLUSIVE else row.verdict.value,
    )


def _count_line(counts: Counter[Verdict]) -> str:
    told = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    undecided = f" ({UNDECIDED}: the launches do not decide it)" if counts[Verdict.INCONCLUSIVE] else ""
    return f"{sum(counts.values())} cells compared: {', '.join(told)}{undecided}"


def _lists(comparison: Comparison) -> list[str]:
    named = (
        ("not compared, defined otherwise (model, arguments or workload)", comparison.refused),
        (f"only in {comparison.before.name}", comparison.only_before),
        (f"only in {comparison.after.name}", comparison.only_after),
        ("without a value", comparison.unmeasured),
    )
    return [f"{what}: {_some(names)}" for what, names in named if names]


def _some(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMES
    return "; ".join(names[:MOST_NAMES]) + (f"; and {rest} more" if rest > 0 else "")
