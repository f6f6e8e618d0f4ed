"""What the cases of a run took in energy, where it could be read."""

from __future__ import annotations

from typing import ClassVar

from hybrid_ops.measure.energy import ENERGY, JOULES_PER_TOKEN, MEAN_CLOCK, MEAN_POWER, TOKENS_PER_JOULE
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.report import Lines, Report, Section, Table

COLUMNS = ((ENERGY, "J", ".4g"), (JOULES_PER_TOKEN, "J/tok", ".4g"), (TOKENS_PER_JOULE, "tok/J", ".4g"),
           (MEAN_POWER, "mean W", ".1f"), (MEAN_CLOCK, "SM MHz", ".0f"))  # fmt: skip


class EnergyTable(Report):
    """A row for each case, and the sources. Nothing where no case has an energy."""

    name: ClassVar[str] = "energy"

    def section(self, run: RunResults) -> Section | None:
        rows = []
        for case in dict.fromkeys(cell.case for cell in run.cells):
            medians = run.medians(case)
            if ENERGY.name in medians:
                figures = (
                    format(medians[metric.name], form) if metric.name in medians else "—" for metric, _, form in COLUMNS
                )
                rows.append((case, *figures, f"{medians['energy_coverage']:.0%}"))
        if not rows:
            return None
        headings = ("case", *(heading for _, heading, _ in COLUMNS), "covered")
        return Section("energy", [Table(headings, rows), Lines(energy_lines(run))])


def energy_lines(run: RunResults) -> list[str]:
    """Where the energy of the run's launches was read, or why it could not be: each once."""
    told = [launch.conditions["energy"] for record in run.launches for launch in record.launches if launch.conditions]
    lines = [
        f"energy: not measured: {energy['reason']}"
        if energy["source"] is None
        else f"energy: {energy['source']}, the timed iterations alone"
        for energy in told
    ]
    return list(dict.fromkeys(lines))
