"""The rollouts of a run as the published table: time, MFU, MBU and tokens a second over the generation length."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from hybrid_ops.models.sizes import format_table
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.report import Preformatted, Report, Section

HEADINGS = ["Gen Length", "Time per Batch (s)", "MFU (%)", "MBU (%)", "Tokens/s"]
ROLLOUTS_FILE = "rollout.md"


class RolloutTables(Report):
    """A table for each model. A figure is the median over the launches; what was not measured is a dash."""

    name: ClassVar[str] = "rollouts"

    def section(self, run: RunResults) -> Section | None:
        text = rollout_text(run)
        return Section("rollouts", [Preformatted(text.splitlines())]) if text else None

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        text = rollout_text(run)
        if not text:
            return []
        path = folder / ROLLOUTS_FILE
        path.write_text(text + "\n", encoding="utf-8")
        return [path]


def rollout_text(run: RunResults) -> str:
    """The tables in Markdown; empty without rollouts."""
    rollouts = run.details("rollouts")
    tables = []
    for spec in dict.fromkeys(rollout["engine"] for rollout in rollouts.values()):
        rows = [HEADINGS]
        notes = set()
        for case, rollout in rollouts.items():
            if rollout["engine"] != spec:
                continue
            length, of = rollout["generation_tokens"], rollout["published_length"]
            name = str(length) if length == of else f"{length} (of {of})"
            rows.append([name, *_figures(run.medians(case))])
            notes.add(
                f"{rollout['num_prompts']} prompts of at most {rollout['prompt_tokens']} tokens × "
                f"{rollout['samples']} samples, {rollout['prompts']}"
                + (f", on {placement}" if (placement := rollout.get("placement")) else "")
            )
        tables.append(f"### {spec}: {'; '.join(sorted(notes))}\n\n{format_table(rows)}")
    return "\n\n".join(tables)


def _figures(medians: Mapping[str, float]) -> list[str]:
    shown = {name: f"{value:.2f}" for name, value in medians.items()}
    if medians:
        shown["seconds"] = f"{medians['output_tokens'] / medians['output_throughput']:.2f}"
    return [shown.get(name, "—") for name in ("seconds", "mfu", "mbu", "output_throughput")]
