"""The reference layers beside their peers: times, ratios, errors, and the goals."""

from __future__ import annotations

from statistics import median
from typing import ClassVar

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
            launches = [record.cases[case] for record in run.records_of(case)]
            times = median(float(launch.values["time_ms"]) for launch in launches)
            rows.append((case, "ours", f"{times:.2f}", "1.00"))
            for name in launches[0].values:
                if name.startswith("speedup_over_"):
                    ratio = median(float(launch.values[name]) for launch in launches if name in launch.values)
                    rows.append((case, name.removeprefix("speedup_over_"), f"{times * ratio:.2f}", f"{ratio:.2f}"))
            rows += [
                (case, name.removeprefix("speedup_over_"), "—", f"refused: {reason}")
                for name, reason in launches[0].absent.items()
            ]
        goals = [claim for claim in run.claims if claim.case in cases]
        lines = [
            Lines([f"{goal.outcome.value}: {goal.claim} ({goal.ratio:.2f})"], STYLES.get(goal.outcome, Style.WARNING))
            for goal in goals
            if goal.ratio is not None
        ]
        return Section("layers", [Table(("case", "contender", "ms", "theirs/ours"), rows), *lines])
