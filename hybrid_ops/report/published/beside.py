"""Published figures beside a run's own, where the case is the same. They are for reading: no verdict looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from hybrid_ops.measure.values import Value
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.numbers import show
from hybrid_ops.report.published.document import PACKAGED, Figure, PublishedDocument, read_documents
from hybrid_ops.report.report import Lines, Report, Section, Table

HEADINGS = ("case", "metric", "published", "now", "now over published", "published on")
BYTES = {"MB": 1e6, "GB": 1e9, "GiB": float(2**30)}
"""Units of published sizes; ours are bytes."""
SAME_LOAD = ("prompt_tokens", "generation_tokens")
"""What a run says of a load or a rollout that must be as published for the case to be the same."""


class PublishedBeside(Report):
    """A line a published figure that the run has measured too, whatever device either was on."""

    name: ClassVar[str] = "published"

    def section(self, run: RunResults) -> Section | None:
        if run.arms is not None:
            return None
        rows = [row for document in _documents_of(run) for row in _rows(run, document)]
        if not rows:
            return None
        notes = ["published figures are shown for reading and decide nothing; hybrid-perf published explains them"]
        if "--perf-set" in run.command:
            notes.append("this run set fields anew (--perf-set): its cases may not be those that were published")
        return Section("published beside now", [Table(HEADINGS, rows), Lines(notes)])


def _model(case: str) -> str:
    return case.partition("/")[0].partition("@")[0]


def _documents_of(run: RunResults, folder: Path = PACKAGED) -> Iterator[PublishedDocument]:
    """The documents that name a model of the run. Reading them takes a second that most runs need not spend."""
    models = {_model(cell.case) for cell in run.cells}
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")]
    if any(f"model: {model}" in text for model in models for text in texts):
        yield from read_documents(folder).values()


def _rows(run: RunResults, document: PublishedDocument) -> Iterator[tuple[str, ...]]:
    published: dict[tuple[str | None, str | None, str | None], list[Figure]] = {}
    for figure in document.figures():
        key = figure.facts.model, figure.facts.workload, figure.facts.metric
        if figure.facts.hardware not in {one.facts.hardware for one in published.get(key, ())}:
            published.setdefault(key, []).append(figure)  # a document may state a figure twice
    for cell in run.cells:
        for figure in published.get((_model(cell.case), cell.case.partition("/")[2], cell.metric), ()):
            if isinstance(cell.value, int | float) and _is_same(run, document, cell.case, figure):
                yield (
                    cell.case,
                    cell.metric,
                    f"{figure.numbers[0]} {figure.facts.unit}",
                    show(cell.value, cell.unit),
                    _ratio(cell.value, figure),
                    figure.facts.hardware or document.hardware,
                )


def _ratio(value: Value, figure: Figure) -> str:
    return f"×{float(value) / (figure.value * BYTES.get(figure.facts.unit or '', 1.0)):.3g}"


def _is_same(run: RunResults, document: PublishedDocument, case: str, figure: Figure) -> bool:
    """Whether the lengths that the run tells of the case are those that were published."""
    facts = figure.facts
    told = run.details("rollouts").get(case) or run.details("loads").get(case) or {}
    if any(name in told and getattr(facts, name) not in (None, str(told[name]), told[name]) for name in SAME_LOAD):
        return False
    length = document.find(metric="generation_tokens", model=None, workload=facts.workload)
    made = run.medians(case).get("output_tokens")
    return length is None or made is None or made == (facts.sequences or 1) * length.value
