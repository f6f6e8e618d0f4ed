"""The table of a run: case, metric, baseline, now, change, verdict. Plain text, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hybrid_ops.measure.procedures import headline_metrics
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.numbers import show, show_change

TOGETHER = (Verdict.FAILED_TO_RUN, Verdict.EXPECTED_FAILURE)
"""Verdicts of a whole case, whose cells share one reason."""
COLUMNS = ("case", "metric", "baseline", "now", "change", "verdict")
ARM_COLUMNS = ("case", "metric", "arm a", "arm b", "change", "verdict")


def result_rows(results: Sequence[CellResult], every_cell: bool) -> list[tuple[tuple[str, ...], Verdict]]:
    """The table's rows. Without `every_cell`: the headline metrics, and each cell whose verdict asks for a look.

    Cells of one case that fail to run (or are known to) for one reason make one row. Of inconclusive cells the headline
    metrics stand for their case.
    """
    rows: list[tuple[tuple[str, ...], Verdict]] = []
    shown_together: set[tuple[str, Verdict, str]] = set()
    headline = headline_metrics()
    quiet = (Verdict.PASS, Verdict.MISSING_BASELINE, Verdict.INCONCLUSIVE)
    for result in results:
        together = (result.case, result.verdict, result.reason)
        if result.verdict in TOGETHER and not every_cell:
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
                        show(result.baseline, result.unit),
                        show(result.value, result.unit),
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


def reason_lines(results: Sequence[CellResult], every_cell: bool) -> list[str]:
    """Why each verdict that asks for a look was reached, equal reasons together and briefly.

    Without `every_cell` the first inconclusive cell of a case stands for the others: on a noisy machine they are many.
    """
    undecided = Counter(result.case for result in results if result.verdict is Verdict.INCONCLUSIVE)
    cells: dict[tuple[Verdict, str], list[str]] = {}
    for result in results:
        if result.verdict in (Verdict.PASS, Verdict.MISSING_BASELINE) or result.recorded:
            continue
        where = result.case if result.verdict in TOGETHER else result.cell
        if result.verdict is Verdict.INCONCLUSIVE and not every_cell:
            others = undecided.pop(result.case, 0) - 1
            if others < 0:
                continue
            where += f" (and {others} more of this case)" if others else ""
        named = cells.setdefault((result.verdict, result.reason), [])
        if where not in named:
            named.append(where)
    return [f"{verdict.value}: {', '.join(named)}: {reason}" for (verdict, reason), named in cells.items()]


def counts(results: Sequence[CellResult]) -> str:
    """`214 pass, 1 slower`, in the order of the verdicts."""
    counted = Counter(result.verdict for result in results)
    return ", ".join(f"{counted[verdict]} {verdict.value}" for verdict in Verdict if counted[verdict])
