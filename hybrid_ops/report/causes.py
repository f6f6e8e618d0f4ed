"""What a run found, cause by cause: cells that one engine made worse together are told once, the worst causes first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.cells import CellResult, reference_failed
from hybrid_ops.regression.verdicts import Verdict

SEVERITY = (
    Verdict.SLOWER,
    Verdict.CHANGED,
    Verdict.UNEXPECTED_SUCCESS,
    Verdict.FAILED_TO_RUN,
    Verdict.INVALID_ENVIRONMENT,
    Verdict.INCONCLUSIVE,
    Verdict.EXPECTED_FAILURE,
    Verdict.FASTER,
    Verdict.MISSING_BASELINE,
    Verdict.PASS,
)
"""The verdicts, worst first."""
WHOLE_CASE = (Verdict.FAILED_TO_RUN, Verdict.EXPECTED_FAILURE, Verdict.INVALID_ENVIRONMENT)
"""Verdicts of a whole case, whose cells share one reason."""
MOVE_TOGETHER = (Verdict.SLOWER, Verdict.FASTER, Verdict.INCONCLUSIVE)
"""Verdicts that the times and rates of an engine get together, because the same launches measure them."""
MOST_NAMES = 6
"""How many cells or cases of a cause are named; the others are counted."""


@dataclass(frozen=True)
class Cause:
    """Cells with one verdict for one cause."""

    verdict: Verdict
    cells: tuple[CellResult, ...]
    """The one that moved most comes first: its reason stands for all."""

    @property
    def where(self) -> str:
        """Its cells, or their cases where a whole case has the verdict: `llama-tiny/short-mbu (and 16 more of …)`."""
        first = self.cells[0]
        if self.verdict in WHOLE_CASE:
            names = list(dict.fromkeys(cell.case for cell in self.cells))
        elif len({cell.reason for cell in self.cells}) == 1 or len({engine_of(cell) for cell in self.cells}) > 1:
            names = [cell.cell for cell in self.cells]
        else:
            names = [f"{first.cell} (and {len(self.cells) - 1} more of {engine_of(first)})"]
        if len(names) > MOST_NAMES:
            names = [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]
        return ", ".join(names)

    @property
    def reason(self) -> str:
        """Why: of cells that moved together, why the one that moved most has the verdict."""
        return self.cells[0].reason

    @property
    def text(self) -> str:
        """`slower: llama-tiny/short-p99_itl_ms (and 16 more of llama-tiny): +63.6% (worse) after 8 launches, …`."""
        return f"{self.verdict.value}: {self.where}: {self.reason}"


def engine_of(cell: CellResult) -> str:
    """The model of a cell, with its configuration: cells of one are measured by the same launches."""
    return cell.case.partition("/")[0]


def causes(results: Sequence[CellResult], every_cell: bool = False) -> list[Cause]:
    """The causes that ask for a look, worst first. With `every_cell`, cells share one where the reason is the same."""
    told = [
        cell for cell in results if cell.verdict not in (Verdict.PASS, Verdict.MISSING_BASELINE) and not cell.recorded
    ]
    keys = [cell.reason for cell in told] if every_cell else _shared(told)
    groups: dict[tuple[Verdict, str], list[CellResult]] = {}
    for cell, key in zip(told, keys):
        groups.setdefault((cell.verdict, key), []).append(cell)
    found = [Cause(verdict, tuple(sorted(cells, key=_moved, reverse=True))) for (verdict, _), cells in groups.items()]
    return sorted(found, key=lambda cause: (SEVERITY.index(cause.verdict), -_moved(cause.cells[0]), -len(cause.cells)))


def _shared(cells: Sequence[CellResult]) -> Iterator[str]:
    """What each cell has in common with the others of its cause."""
    error_of = {reference_failed(cell.case, cell.reason): cell.reason for cell in cells}
    engines: dict[str, set[str]] = {}
    for cell in cells:
        if cell.verdict is Verdict.CHANGED:
            engines.setdefault(cell.metric, set()).add(engine_of(cell))
    for cell in cells:
        if cell.verdict is Verdict.INVALID_ENVIRONMENT:
            yield "the machine"
        elif cell.verdict is Verdict.FAILED_TO_RUN:
            yield error_of.get(cell.reason, cell.reason)  # a ratio has none because its reference died
        elif cell.verdict is Verdict.CHANGED and len(engines[cell.metric]) > 1:
            yield cell.metric  # such as tokens, which a new version of the engine changes in many models
        elif cell.verdict is Verdict.CHANGED or (cell.verdict in MOVE_TOGETHER and cell.kind != Kind.EXACT):
            yield engine_of(cell)
        else:
            yield cell.reason


def worst_first(cells: Iterable[CellResult]) -> list[CellResult]:
    """Cells by verdict, the worst first; of those that failed the ones that moved further first."""
    return sorted(
        cells, key=lambda cell: (SEVERITY.index(cell.verdict), -_moved(cell) if is_bad(cell.verdict) else 0.0)
    )


def is_bad(verdict: Verdict) -> bool:
    """Whether testcases fail of it."""
    return verdict.outcome in ("failed", "error")


def _moved(cell: CellResult) -> float:
    """How far a cell moved, either way, as a log-ratio."""
    return abs(math.log1p(cell.change)) if cell.change is not None and cell.change > -1 else 0.0
