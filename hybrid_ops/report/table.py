"""The table of a run: case, metric, baseline, now, change, verdict. Plain text, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hybrid_ops.measure.procedures import headline_metrics
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.causes import WHOLE_CASE, worst_first
from hybrid_ops.report.numbers import show_change, show_short

MOST_LETTERS = 12
"""Of a value that is a text, such as token ids."""
COLUMNS = ("case", "metric", "baseline", "now", "change", "verdict")
ARM_COLUMNS = ("case", "metric", "arm a", "arm b", "change", "verdict")


def result_rows(results: Sequence[CellResult], every_cell: bool) -> list[tuple[tuple[str, ...], Verdict]]:
    """The table's rows. Without `every_cell`: the headline metrics, and each cell whose verdict asks for a look.

    Cells of one case that fail to run (or are known to) for one reason make one row. Of inconclusive cells the headline
    metrics stand for their case. The worst verdicts come first.
    """
    rows: list[tuple[tuple[str, ...], Verdict]] = []
    shown_together: set[tuple[str, Verdict, str]] = set()
    headline = headline_metrics()
    quiet = (Verdict.PASS, Verdict.MISSING_BASELINE, Verdict.INCONCLUSIVE)
    for result in worst_first(results):
        together = (result.case, result.verdict, result.reason)
        if result.verdict in WHOLE_CASE and not every_cell:
            if together not in shown_together:
                shown_together.add(together)
                count = sum((other.case, other.verdict, other.reason) == together for other in results)
                name = result.metric if count == 1 else f"({count} metrics)"
                rows.append(((result.case, name, "—", "—", "", result.verdict.value), result.verdict))
        elif every_cell or result.verdict not in quiet or result.metric in headline:
            rows.append(
                (
                    (
                        result.case,
                        result.metric,
                        show_short(result.baseline, result.unit, MOST_LETTERS),
                        show_short(result.value, result.unit, MOST_LETTERS),
                        show_change(result.change) if result.verdict is not Verdict.CHANGED else "",
                        _marked(result),
                    ),
                    result.verdict,
                )
            )
    return rows


def _marked(result: CellResult) -> str:
    """The verdict, with what must be known to read it."""
    if result.is_ungated:
        return f"{result.verdict.value} (reference kernels)"
    return f"{result.verdict.value} (recorded)" if result.recorded else result.verdict.value


def counts(results: Sequence[CellResult]) -> str:
    """`214 pass, 1 slower`, in the order of the verdicts."""
    counted = Counter(result.verdict for result in results)
    return ", ".join(f"{counted[verdict]} {verdict.value}" for verdict in Verdict if counted[verdict])
