"""The steps and drifts that a night adds to what was found before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hybrid_ops.regression.history.nights import Nights, cells_of
from hybrid_ops.report.messages.causes import bad_causes, worse_cause
from hybrid_ops.report.messages.states import States
from hybrid_ops.report.messages.text import Code, Entry


@dataclass(frozen=True)
class Changes:
    """The changes for the worse that nobody has accepted."""

    count: int
    """How many there are."""
    new: list[Entry]
    """Those that are news."""


def changes_since(nights: Nights, told: int, states: States) -> Changes:
    """The open changes after the last of the nights, and which of them are news after the first `told`.

    A change is none where it was found before, and none in a cell whose engine is known to be worse: after three nights
    every regression is a step, too. Raises InputError without apache-otava.
    """
    # scipy.stats takes a second to import, which every other command would wait for.
    from hybrid_ops.regression.history.search import open_regressions

    tonight = nights.nights[-1]
    measured = {(cell.case, cell.metric) for run in tonight.runs for cell in cells_of(nights.history, run)}
    chosen = [one for one in nights.history.series(device=nights.device) if (one.case, one.metric) in measured]
    found = open_regressions(nights.history, chosen, _start(nights, len(nights.nights)))
    known = open_regressions(nights.history, chosen, _start(nights, told)) if found else []
    bad = bad_causes(states)
    new = []
    for index, change in enumerate(found):
        alike = [other for other in known if other.series == change.series and other.change.kind is change.change.kind]
        earlier = [
            other
            for other in found[:index]
            if other.series == change.series and other.change.kind is change.change.kind
        ]
        state = states[change.series.case, change.series.metric]
        if len(earlier) >= len(alike) and worse_cause(state) not in bad:
            head, *lines = change.lines(nights.history)
            new.append(Entry((Code(head),), [(Code(line),) for line in lines]))
    return Changes(len(found), new)


def _start(nights: Nights, told: int) -> datetime:
    """When the first night began that is not among the first `told`."""
    if told < len(nights.nights):
        return nights.nights[told].runs[0].started
    return nights.nights[-1].runs[-1].started + timedelta(microseconds=1)
