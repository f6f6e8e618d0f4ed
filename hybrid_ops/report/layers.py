"""The reference layers beside their peers: times, ratios, errors, and the goals."""

from __future__ import annotations

from typing import ClassVar

from hybrid_ops.measure.procedures.layers import OURS, SPEEDUPS, TIME
from hybrid_ops.regression.claims import Outcome
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.report import Lines, Report, Section, Style, Table

STYLES = {Outcome.HOLDS: Style.GOOD, Outcome.DOES_NOT_HOLD: Style.BAD}


class LayerTables(Report):
    """A row for each contender of each case; a line for each goal."""

    name: ClassVar[str] = "layers"

    def section(self, run: RunResults) -> Section | None:
        cases = [case for case in run.details("layers") if run.records_of(case)]
        if not cases:
            return None
        rows = []
        for case in cases:
            medians = run.medians(case)
            rows.append((case, OURS, f"{medians[TIME.name]:.2f}", "1.00"))
            for peer, metric in SPEEDUPS.items():
                if (ratio := medians.get(metric.name)) is not None:
                    rows.append((case, peer, f"{medians[TIME.name] * ratio:.2f}", f"{ratio:.2f}"))
                elif (reason := run.records_of(case)[0].cases[case].absent.get(metric.name)) is not None:
                    rows.append((case, peer, "—", f"refused: {reason}"))
        goals = [claim for claim in run.claims if claim.case in cases]
        lines = [
            Lines([f"{goal.outcome.value}: {goal.claim} ({goal.ratio:.2f})"], STYLES.get(goal.outcome, Style.WARNING))
            for goal in goals
            if goal.ratio is not None
        ]
        return Section("layers", [Table(("case", "contender", "ms", "theirs/ours"), rows), *lines])
