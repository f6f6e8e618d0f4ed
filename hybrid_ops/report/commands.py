"""The commands that a reader of a bad verdict gives next: measure again, and accept. Exact lines for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.message import keyword

MOST_CASES = 4
"""How many cases a command names; of more it names the models."""
LEFT_OUT = ("--perf-run-id", "-k")
"""The options of a command that are left out: the run's own name and its choice of cases."""
UPDATE = "--update-baselines"
ACCEPTABLE = (Verdict.SLOWER, Verdict.FASTER, Verdict.CHANGED, Verdict.MISSING_BASELINE)
"""Verdicts that a new baseline settles."""


def measure_again(run: RunResults, cells: Sequence[CellResult]) -> str | None:
    """How to measure the cases of some cells again, as the run did.

    None for no cells, and for a run that pytest did not make: `hybrid-perf import` cannot measure.
    """
    cases = selection(cell.case for cell in cells)
    return called(run.command, cases) if cases and _can_measure(run) else None


def accept(run: RunResults, cells: Sequence[CellResult]) -> str | None:
    """How to record what is true now of the cases of those cells that a new baseline settles.

    None where there is none of them, in a comparison of arms, which has no baselines, and for a run that pytest did
    not make.
    """
    cases = selection(cell.case for cell in cells if cell.verdict in ACCEPTABLE)
    return called(run.command, cases, UPDATE) if cases and run.arms is None and _can_measure(run) else None


def selection(cases: Iterable[str]) -> str:
    """The expression of `-k` that chooses cases, or their models where they are many; empty for none."""
    chosen = list(dict.fromkeys(cases))
    if len(chosen) > MOST_CASES:
        chosen = list(dict.fromkeys(case.partition("/")[0] + "/" for case in chosen))
    return " or ".join(f"({keyword(case)})" if "@" in case and len(chosen) > 1 else keyword(case) for case in chosen)


def called(command: str | None, chosen: str, *further: str) -> str:
    """The command of a run without the run's own name, with an expression in place of its own."""
    kept = []
    is_value = False
    for word in shlex.split(command or "pytest --perf"):
        if not is_value and word not in (*LEFT_OUT, UPDATE) and not word.startswith(f"{LEFT_OUT[0]}="):
            kept.append(word)
        is_value = word in LEFT_OUT and not is_value
    return shlex.join([*kept, *further, "-k", chosen])


def _can_measure(run: RunResults) -> bool:
    return run.command.split(maxsplit=1)[:1] in ([], ["pytest"])
