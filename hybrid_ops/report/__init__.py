"""The reports of a run, listed in one place and called in one place."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.known import Known
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.comparison_tables import ComparisonReport
from hybrid_ops.report.cost import CostReport
from hybrid_ops.report.energy import EnergyTable
from hybrid_ops.report.junit import JUnit
from hybrid_ops.report.kernels import KernelTables
from hybrid_ops.report.layers import LayerTables
from hybrid_ops.report.llama_bench import LlamaBenchTables
from hybrid_ops.report.page.report import Page
from hybrid_ops.report.power_limits import PowerLimits
from hybrid_ops.report.published.beside import PublishedBeside
from hybrid_ops.report.report import Report, Section
from hybrid_ops.report.rollout import RolloutTables
from hybrid_ops.report.run_plots import Plots
from hybrid_ops.report.serving import ServingTables
from hybrid_ops.report.summary import write_summary
from hybrid_ops.report.training import TrainingTables
from hybrid_ops.report.updates import Updates
from hybrid_ops.report.verdicts import Verdicts

REPORTS: tuple[Report, ...] = (
    Verdicts(),
    Updates(),
    RolloutTables(),
    ComparisonReport(),
    ServingTables(),
    LayerTables(),
    KernelTables(),
    LlamaBenchTables(),
    TrainingTables(),
    EnergyTable(),
    PowerLimits(),
    PublishedBeside(),
    Plots(),
    CostReport(),
    JUnit(),
    Page(),
)
"""The reports that ship with the suite, in the order in which they are shown."""

KNOWN = Known("a report", REPORTS)
"""Those and the registered ones."""


FAULTS_FILE = "report-faults.log"
"""The tracebacks of reports that have a fault, in the run's folder."""


@dataclass
class Told:
    """What one report said of a run."""

    section: Section | None
    files: list[Path] = field(default_factory=list)
    problem: str | None = None
    """Why its files or its section are not there."""


def register(report: Report) -> None:
    """Make a further report known by its name."""
    KNOWN.register(report)


def _told(report: Report, run: RunResults, folder: Path) -> Told:
    """What one report says. Its own fault must not cost a night the verdicts that the others tell."""
    told = Told(None)
    try:
        told.files = report.write(run, folder)
    except (InputError, OSError) as error:
        told.problem = f"{report.name}: no files: {error}"
    except Exception as error:
        told.problem = _fault(report, error, folder)
    try:
        told.section = report.section(run)
    except Exception as error:
        told.problem = _fault(report, error, folder)
    return told


def _fault(report: Report, error: Exception, folder: Path) -> str:
    """A sentence on a report's fault. The traceback is kept in a file."""
    path = folder / FAULTS_FILE
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    return f"{report.name}: a fault of this report: {type(error).__name__}: {error} (please report it with {path})"


def write_reports(run: RunResults, folder: Path) -> list[Told]:
    """Have every report write its files into the run's folder, then write the summary of their sections.

    A report whose files cannot be written, or that has a fault, says so; the others go on.
    """
    told = [_told(report, run, folder) for report in KNOWN]
    try:
        write_summary(run, [one.section for one in told if one.section is not None], folder)
    except OSError as error:
        told.append(Told(None, problem=f"summary: not written: {error}"))
    return told
