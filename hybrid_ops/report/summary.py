"""`summary.md`: a run in Markdown, for a pull request or a CI job's summary page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.render import section_markdown
from hybrid_ops.report.report import Section
from hybrid_ops.report.table import counts

SUMMARY_FILE = "summary.md"


def write_summary(run: RunResults, sections: Sequence[Section], folder: Path) -> Path:
    """Write what ran where, the counts, and the sections of all reports."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    made = f"Run `{run.run_id}` on {run.device.name} (`{run.device.device_class}`), {run.seconds:.0f} s."
    parts = [f"# Performance: {counts(run.cells)}", f"{made} {versions}." if versions else made]
    for number, section in enumerate(sections):
        text = section_markdown(section)
        parts += [text] if number == 0 else [f"## {section.title}", text]
    path = folder / SUMMARY_FILE
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path
