"""News as the entries of a message: cells of one engine once, one error once, one metric over many engines once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from hybrid_ops.measure.procedures import headline_metrics
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.messages.causes import News, NewsKind, size_of
from hybrid_ops.report.messages.states import BASELINE, NO_RESULTS, CellState, Condition, States, is_accepted
from hybrid_ops.report.messages.text import Code, Entry, Part, Text
from hybrid_ops.report.numbers import show, show_change

TOGETHER = 3
"""How many cells of one engine stand for the engine, as in `regression.crosscell`."""
MOST_FIGURES = 3
MOST_NAMES = 3
PART_TITLES = {
    NewsKind.NEW: "New",
    NewsKind.GREW: "Worse than told before",
    NewsKind.UNMEASURED: "Could not be measured",
    NewsKind.RECOVERED: "Recovered",
    NewsKind.MEASURED_AGAIN: "Measured again",
}
"""In the order in which a message has them."""
BAD_NEWS = (NewsKind.NEW, NewsKind.GREW, NewsKind.UNMEASURED)


def news_parts(news: Sequence[News], before: States, after: States) -> list[Part]:
    """The parts of a message for all news."""
    parts = []
    for kind, title in PART_TITLES.items():
        cells = cells_of_kind(news, kind)
        if kind in (NewsKind.NEW, NewsKind.GREW):
            entries = worse_entries(cells, after)
        elif kind is NewsKind.UNMEASURED:
            entries = unmeasured_entries(cells)
        elif kind is NewsKind.RECOVERED:
            entries = recovered_entries(cells, before, after)
        else:
            entries = [_measured_again(cells)] if cells else []
        if entries:
            parts.append(Part(title, entries))
    return parts


def cells_of_kind(news: Iterable[News], *kinds: NewsKind) -> list[CellState]:
    """The cells of all news of some kinds."""
    return [state for one in news if one.kind in kinds for state in one.cells]


def counts(news: Sequence[News]) -> list[str]:
    """`8 cells worse`, `20 cells could not be measured`, `3 cells recovered`."""
    words = {
        "worse": (NewsKind.NEW, NewsKind.GREW),
        "could not be measured": (NewsKind.UNMEASURED,),
        "recovered": (NewsKind.RECOVERED,),
        "measured again": (NewsKind.MEASURED_AGAIN,),
    }
    found = []
    for told, kinds in words.items():
        cells = cells_of_kind(news, *kinds)
        counted = [state for state in cells if state.seen.metric != NO_RESULTS]
        found += [f"{count_cells(len(counted))} {told}"] if counted else []
        found += [f"{state.seen.case} {told}" for state in cells if state.seen.metric == NO_RESULTS]
    return found


def still_bad(news: Sequence[News], states: States) -> list[CellState]:
    """The cells that are bad and no news."""
    told = {state.seen.key for state in cells_of_kind(news, *BAD_NEWS)}
    return [state for key, state in states.items() if (state.is_worse or state.is_unmeasured) and key not in told]


def worse_entries(cells: Sequence[CellState], after: States) -> list[Entry]:
    """What is worse, by how much, and since which run where that is not the last one."""
    entries = []
    for group, metric in grouped(cells):
        starts = {state.worse_since or "" for state in group}
        since: Text = () if starts <= {state.seen.run for state in group} else (", since ", Code(min(starts)))
        amount = f", {_amount(size)} worse" if (size := size_of(group)) is not None else ""
        amount += " (median)" if amount and len(group) > 1 else ""
        verdicts = Counter(
            state.seen.verdict if state.seen.condition is Condition.WORSE else "worse in an earlier run"
            for state in group
        )
        told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        if len(group) == 1:
            told = next(iter(verdicts))
        elif len(verdicts) == 1:
            told = f"{_of_all(group, metric, after)} {next(iter(verdicts))} together"
        entries.append(Entry((*_name(group, metric), f": {told}{amount}", *since), _figures(group, metric)))
    return entries


def unmeasured_entries(cells: Iterable[CellState]) -> list[Entry]:
    """What could not be measured, once for each reason."""
    by_reason: dict[str, list[CellState]] = {}
    for state in cells:
        reason = next(iter(state.seen.reason.splitlines()), "") or state.seen.verdict
        by_reason.setdefault(reason, []).append(state)
    entries = []
    for reason, group in by_reason.items():
        counted = [state for state in group if state.seen.metric != NO_RESULTS]
        count = f"{count_cells(len(counted))}: " if counted else ""
        entries.append(Entry((_engines(group), f": {count}", Code(reason))))
    return entries


def recovered_entries(cells: Sequence[CellState], before: States, after: States) -> list[Entry]:
    """What is fine again, and whether an update has made it so."""
    entries = []
    for group, metric in grouped(cells):
        accepted = [state for state in group if is_accepted(before[state.seen.key], state.seen)]
        known = [state for state in group if state.seen.verdict == Verdict.EXPECTED_FAILURE]
        told = "" if len(group) == 1 else f"{_of_all(group, metric, after)} "
        told += "fine again"
        if accepted:
            told += f"; the baseline was recorded anew for {'it' if len(group) == 1 else len(accepted)}"
        if known:
            told += f"; a known failure now: {len(known)}"
        entries.append(Entry((*_name(group, metric), f": {told}"), _figures(group, metric)))
    return entries


def _measured_again(cells: Sequence[CellState]) -> Entry:
    counted = [state for state in cells if state.seen.metric != NO_RESULTS]
    count = f": {count_cells(len(counted))}" if counted else ""
    return Entry((_engines(cells), count))


def grouped(cells: Sequence[CellState]) -> list[tuple[list[CellState], str | None]]:
    """Cells by what a reader takes for one thing, each group with its metric where that is what its cells share.

    First engines of which several cells are bad, then metrics that are bad on several engines, then what is left of
    each engine.
    """
    groups: list[tuple[list[CellState], str | None]] = []
    left = list(cells)

    def take(key: Callable[[CellState], str], is_group: Callable[[list[CellState]], bool], by_metric: bool) -> None:
        nonlocal left
        found: dict[str, list[CellState]] = {}
        for state in left:
            found.setdefault(key(state), []).append(state)
        taken = {name: group for name, group in found.items() if is_group(group)}
        groups.extend((group, name if by_metric else None) for name, group in taken.items())
        left = [state for state in left if key(state) not in taken]

    take(lambda state: state.seen.engine, lambda group: len(group) >= TOGETHER, by_metric=False)
    take(lambda state: state.seen.metric, lambda group: len({state.seen.engine for state in group}) > 1, by_metric=True)
    take(lambda state: state.seen.engine, lambda group: True, by_metric=False)
    return groups


def count_cells(count: int) -> str:
    return f"{count} cell" + ("" if count == 1 else "s")


def _of_all(group: Sequence[CellState], metric: str | None, after: States) -> str:
    """`8 of 20 cells`, of all that the group's engine, case or metric has."""
    cases = {state.seen.case for state in group}
    if metric is not None:
        total = sum(state.seen.metric == metric for state in after.values())
    elif len(cases) == 1:
        total = sum(state.seen.case in cases for state in after.values())
    else:
        total = sum(state.seen.engine == group[0].seen.engine for state in after.values())
    return f"{len(group)} of {count_cells(total)}"


def _name(group: Sequence[CellState], metric: str | None) -> Text:
    """What a group is called: its cell, its metric and engines, its case, or its engine."""
    seen = group[0].seen
    if len(group) == 1:
        return (Code(f"{seen.case} {seen.metric}"),)
    if metric is not None:
        return (Code(metric), " on ", _engines(group))
    return (Code(seen.case if len({state.seen.case for state in group}) == 1 else seen.engine),)


def _engines(cells: Iterable[CellState]) -> Code:
    names = list(dict.fromkeys(state.seen.engine for state in cells))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return Code(", ".join(names[:MOST_NAMES]) + more)


def _figures(group: Sequence[CellState], metric: str | None) -> list[Text]:
    """The cells that say most: those of a short table first, then the largest changes."""
    headline = headline_metrics()
    ordered = sorted(group, key=lambda state: (state.seen.metric not in headline, -(state.size or 0.0)))
    is_one_case = len({state.seen.case for state in group}) == 1
    lines: list[Text] = []
    for state in ordered[:MOST_FIGURES]:
        seen = state.seen
        name = "" if len(group) == 1 else f"{seen.metric} " if is_one_case else f"{seen.case} {seen.metric} "
        change = show_change(_change(seen.value, seen.baseline))
        before = "the baseline" if seen.compared_with == BASELINE else seen.compared_with
        figures = f"{show(seen.baseline, seen.unit)} in {before}, {show(seen.value, seen.unit)} now"
        lines.append((Code(f"{name}{figures}" + (f" ({change})" if change else "")),))
    if len(group) > MOST_FIGURES:
        lines.append((f"and {len(group) - MOST_FIGURES} more",))
    return lines


def _change(value: Value | None, baseline: Value | None) -> float | None:
    if isinstance(value, str | None) or isinstance(baseline, str | None) or baseline == 0:
        return None
    return float(value) / float(baseline) - 1


def _amount(size: float) -> str:
    """`40 %`, of a log-ratio."""
    return f"{math.expm1(size):.0%}".replace("%", " %")
