"""A sweep over power limits: throughput and energy at each, as a table, and the knee.

Where others have published the throughput of the same test of a model of this name, theirs stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hybrid_ops.measure.energy import JOULES_PER_TOKEN, MEAN_CLOCK, MEAN_POWER, TOKENS_PER_JOULE
from hybrid_ops.measure.knee import SweepPoint, knee
from hybrid_ops.measure.power_limit import SWEEPS
from hybrid_ops.measure.procedures.llama_bench import LlamaBenchTests
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.published.document import read_documents
from hybrid_ops.report.report import Block, Lines, Report, Section, Table

HEADINGS = ("case", "limit W", "published tok/s", "now tok/s", "J/tok", "tok/J", "mean W", "SM MHz")
FIGURES = ((JOULES_PER_TOKEN.name, ".4g"), (TOKENS_PER_JOULE.name, ".4g"), (MEAN_POWER.name, ".1f"),
           (MEAN_CLOCK.name, ".0f"))  # fmt: skip


@dataclass(frozen=True)
class LimitPoint:
    """One case at one power limit."""

    case: str
    watts: int
    values: Mapping[str, float]
    """The medians over the launches."""
    throughput: float

    @property
    def joules_per_token(self) -> float | None:
        return self.values.get(JOULES_PER_TOKEN.name)


class PowerLimits(Report):
    """A row for each limit of each case, and the knee of each case."""

    name: ClassVar[str] = "power limits"

    def section(self, run: RunResults) -> Section | None:
        found = sweeps(run)
        if not found:
            return None
        published = {name: published_rates(run, name, points) for name, points in found.items()}
        rows = [row for name, points in found.items() for row in _rows(name, points, published[name].rates)]
        lines = [knee_line(*sweep) for sweep in found.items()]
        lines += [
            f"{name}: published on {theirs.hardware}, for reading" for name, theirs in published.items() if theirs.rates
        ]
        blocks: list[Block] = [Table(HEADINGS, rows), Lines(lines)]
        return Section("power limits", blocks)


def sweeps(run: RunResults) -> dict[str, list[LimitPoint]]:
    """The measured points of each sweep, the highest limit first, by the case without its limit."""
    found: dict[str, list[LimitPoint]] = {}
    for case, told in run.details(SWEEPS).items():
        values = run.medians(case)
        if told["throughput"] in values:
            point = LimitPoint(case, told["watts"], values, values[told["throughput"]])
            found.setdefault(told["sweep"], []).append(point)
    return {name: sorted(points, key=lambda point: -point.watts) for name, points in found.items()}


@dataclass(frozen=True)
class Published:
    """What a document says of a sweep."""

    rates: Mapping[int, str]
    """By power limit in watts, as printed."""
    hardware: str = ""


def published_rates(run: RunResults, name: str, points: Sequence[LimitPoint]) -> Published:
    """The published rates of the same test of a model of the same name; none where there are none."""
    assert LlamaBenchTests.details_key is not None
    told = run.details(LlamaBenchTests.details_key).get(points[0].case)
    if told is None:
        return Published({})
    model = name.partition("/")[0].partition("@")[0]
    for document in read_documents().values():
        rates = {
            int(figure.facts.power.removesuffix("W")): figure.text
            for figure in document.figures()
            if figure.facts.model == model and figure.facts.power is not None
            if figure.facts.metric == "throughput" and told["test"] in figure.row
        }
        if rates:
            return Published(rates, document.hardware)
    return Published({})


def _rows(name: str, points: Sequence[LimitPoint], published: Mapping[int, str]) -> list[tuple[str, ...]]:
    """A row for each limit that was measured or published, the highest first."""
    measured = {point.watts: point for point in points}
    rows = []
    for watts in sorted({*measured, *published}, reverse=True):
        theirs, point = published.get(watts, "—"), measured.get(watts)
        values = {} if point is None else point.values
        now = "—" if point is None else f"{point.throughput:.2f}"
        figures = (format(values[metric], form) if metric in values else "—" for metric, form in FIGURES)
        rows.append((name, str(watts), theirs, now, *figures))
    return rows


def knee_of(points: Sequence[LimitPoint]) -> SweepPoint | None:
    """The limit with the least product of energy and delay; None for fewer than three points with an energy."""
    known = [
        SweepPoint(str(point.watts), point.throughput, point.joules_per_token)
        for point in points
        if point.joules_per_token is not None
    ]
    return knee(known)


def knee_line(name: str, points: Sequence[LimitPoint]) -> str:
    """Where the knee is, in a sentence."""
    if (best := knee_of(points)) is None:
        return f"{name}: no knee: it takes three limits with a known energy"
    share = best.throughput / max(point.throughput for point in points)
    return (
        f"{name}: the knee is at {best.label} W: {share:.1%} of the most tok/s at {best.cost:.4g} J/tok, "
        "the least energy times delay"
    )
