"""What an update of the baselines wrote, kept and refused."""

from __future__ import annotations

import os
from typing import ClassVar

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.numbers import show
from hybrid_ops.report.report import Lines, Report, Section, Style


class Updates(Report):
    """Each changed value, old to new; the counts; the files."""

    name: ClassVar[str] = "updates"

    def section(self, run: RunResults) -> Section | None:
        update = run.update
        if update is None:
            return None
        first = [entry for entry in update.written if entry.old is None]
        changed = [entry for entry in update.written if entry.old not in (None, entry.new)]
        same = len(update.written) - len(first) - len(changed)  # as before, of a case that is now defined otherwise
        moves = [
            f"{entry.case} {entry.metric}: {show(entry.old, entry.unit)} → {show(entry.new, entry.unit)}"
            for entry in changed
        ]
        counts = (
            f"{len(first)} recorded for the first time, {len(changed)} changed, {same} confirmed, "
            f"{len(update.kept)} portable ones kept, {len(update.refused)} refused"
        )
        refused = [f"refused {name}: {reason}" for name, reason in update.refused.items()]
        files = [f"wrote {os.path.relpath(file)}" for file in sorted({entry.file for entry in update.written})]
        return Section("baselines updated", [Lines([*moves, counts]), Lines(refused, Style.BAD), Lines(files)])
