"""Which cells share a cause, and what is news since something was told.

What moves together is told once: all times and rates of one engine are one cause, because one launch measures them.
News is decided for a cause and not for a cell. Else a noisy cell at the edge of its tolerance, which is slower tonight
and passes tomorrow, would make a message each night of a regression that everyone knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from hybrid_ops.report.messages.states import NO_RESULTS, CellState, Key, States, is_beyond


@dataclass(frozen=True, order=True)
class Cause:
    """What can go bad and recover as one."""

    engine: str
    """The name of the launches; of a gap, the suite."""
    of: str
    """What is worse (`states.PACE` or a metric), or the case that could not be measured."""
    is_unmeasured: bool = False


Told = Mapping[Cause, float | None]
"""The causes that someone has been told of, each with the size that was told (log-ratio; None for none)."""


class NewsKind(StrEnum):
    NEW = "new"
    GREW = "grew"
    """Worse than told before, by more than the tolerance."""
    UNMEASURED = "unmeasured"
    RECOVERED = "recovered"
    MEASURED_AGAIN = "measured again"


@dataclass(frozen=True)
class News:
    """What changed of one cause, and its cells: as they are now where it is bad, as they were where it recovered."""

    kind: NewsKind
    cause: Cause
    cells: tuple[CellState, ...]


def worse_cause(state: CellState) -> Cause:
    """The cause that makes a cell worse."""
    return Cause(state.seen.engine, state.seen.aspect)


def bad_causes(states: States) -> dict[Cause, list[CellState]]:
    """What is bad, and its cells."""
    found: dict[Cause, list[CellState]] = {}
    for state in states.values():
        if state.is_worse:
            found.setdefault(worse_cause(state), []).append(state)
        if state.is_unmeasured:
            found.setdefault(Cause(state.seen.engine, state.seen.case, True), []).append(state)
    return found


def size_of(cells: Iterable[CellState]) -> float | None:
    """The median of how much worse the cells of a cause are (log-ratio); None where none is a number."""
    sizes = [state.size for state in cells if state.size is not None]
    return median(sizes) if sizes else None


def told_after(told: Told, states: States) -> dict[Cause, float | None]:
    """What has been told once `states` are. A cause keeps the size that it was told with until it is beyond that."""
    found: dict[Cause, float | None] = {}
    for cause, cells in bad_causes(states).items():
        found[cause] = size_of(cells) if _is_news(told, cause, cells) else told[cause]
    return found


def news_since(told: Told, before: States, after: States) -> list[News]:
    """What `after` has that was not told when `before` was known."""
    found = [
        News(_kind(told, cause), cause, tuple(cells))
        for cause, cells in bad_causes(after).items()
        if _is_news(told, cause, cells) and not (cause not in told and _all_bad_before(cause, cells, before))
    ]
    for cause, cells in bad_causes(before).items():
        now = [after[state.seen.key] for state in cells if state.seen.key in after]
        if not now or any(state.is_unmeasured if cause.is_unmeasured else state.is_worse for state in now):
            continue
        if not cause.is_unmeasured:
            found.append(News(NewsKind.RECOVERED, cause, tuple(now)))
        elif not _outage_hid_something_worse(cells, after):
            found.append(News(NewsKind.MEASURED_AGAIN, cause, tuple(now)))
    return found


def _is_news(told: Told, cause: Cause, cells: Sequence[CellState]) -> bool:
    if cause not in told:
        return True
    return is_beyond(size_of(cells), told[cause], median(state.tolerance for state in cells))


def _kind(told: Told, cause: Cause) -> NewsKind:
    if cause.is_unmeasured:
        return NewsKind.UNMEASURED
    return NewsKind.GREW if cause in told else NewsKind.NEW


def _all_bad_before(cause: Cause, cells: Sequence[CellState], before: States) -> bool:
    """Whether a cause is only called otherwise than before, as where launches have got another name."""
    known = [before.get(state.seen.key) for state in cells]
    return all(
        state is not None and (state.is_unmeasured if cause.is_unmeasured else state.is_worse) for state in known
    )


def _outage_hid_something_worse(cells: Sequence[CellState], after: States) -> bool:
    """Whether a regression that was told before an outage is still there behind it: then its end is no recovery."""
    engines = {state.seen.engine for state in cells}
    suites = {state.seen.suite for state in cells if state.seen.metric == NO_RESULTS}
    return any(
        state.is_worse and (state.seen.engine in engines or (suites and state.seen.suite in suites))
        for state in after.values()
    )


def bad_keys(states: States) -> set[tuple[Key, bool, bool]]:
    """The cells that are bad, and how."""
    return {
        (key, state.is_worse, state.is_unmeasured)
        for key, state in states.items()
        if state.is_worse or state.is_unmeasured
    }
