"""The message of a night: what its runs have made news since the last night that a receiver was told of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid_ops.regression.history.differences import differences
from hybrid_ops.regression.history.nights import Nights, StoredRun, cells_of
from hybrid_ops.report.messages.causes import News, NewsKind, Told, bad_keys, news_since, told_after
from hybrid_ops.report.messages.changes import changes_since
from hybrid_ops.report.messages.commands import commands
from hybrid_ops.report.messages.entries import BAD_NEWS, cells_of_kind, count_cells, counts, news_parts, still_bad
from hybrid_ops.report.messages.states import States, seen_in_night, states_after
from hybrid_ops.report.messages.text import Code, Link, Message, Part, Text
from hybrid_ops.report.summary import SUMMARY_FILE

MOST_NIGHTS = 200
"""The newest nights that are read; what no night of them has measured is forgotten."""
MOST_LETTERS_OF_DIFFERENCES = 1000


@dataclass(frozen=True)
class Known:
    """What is known of each cell after a night, and what has been told by then where every night was."""

    states: States
    told: Told


@dataclass(frozen=True)
class NightNews:
    """What a night has to tell."""

    message: Message | None
    """None where nothing is new, worse or recovered."""
    is_bad: bool
    """Whether something is new, worse than told before, or could not be measured."""
    is_clear: bool
    """Whether nothing at all is bad."""


def known_after(nights: Nights) -> list[Known]:
    """What is known before the first of the nights, and after each."""
    known = [Known({}, {})]
    forgotten = max(0, len(nights.nights) - MOST_NIGHTS)
    for night in nights.nights[forgotten:]:
        states = known[-1].states
        for run in night.runs:
            states = states_after(states, seen_in_night(run, cells_of(nights.history, run)))
        known.append(Known(states, told_after(known[-1].told, states)))
    return known[:1] * forgotten + known


def night_news(nights: Nights, told: int, results: Path, link: str | None) -> NightNews:
    """What the last of the nights has to tell.

    Parameters
    ----------
    told: how many of the nights have been told of, from the first
    results: the folder of the runs' folders
    link: where a reader can see more, or None

    Raises InputError without apache-otava.
    """
    known = known_after(nights)
    before, after = known[told], known[-1]
    tonight = nights.nights[-1]
    news = news_since(before.told, before.states, after.states)
    changes = changes_since(nights, told, after.states)
    is_bad = bool(changes.new) or any(one.kind in BAD_NEWS for one in news)
    is_clear = not bad_keys(after.states) and not changes.count
    if not news and not changes.new:
        return NightNews(None, is_bad, is_clear)
    parts = news_parts(news, before.states, after.states)
    if changes.new:
        place = sum(one.kind in BAD_NEWS for one in {one.kind: one for one in news}.values())
        parts.insert(place, Part("Changes that no single night shows", changes.new))
    told_counts = counts(news) + ([f"{len(changes.new)} changed over several nights"] if changes.new else [])
    title: Text = (
        "Performance on ",
        Code(nights.device or "an unknown device"),
        f": {', '.join(told_counts)}; night ",
        Code(tonight.name),
    )
    notes: list[Text] = [note for run in tonight.runs if not run.problem for note in _notes(nights, run, told, news)]
    if still := len(still_bad(news, after.states)):
        notes.append((f"still bad, as told before: {count_cells(still)}",))
    summaries = ", ".join(str(results / run.name / SUMMARY_FILE) for run in tonight.runs if not run.problem)
    if summaries:
        notes.append(("summary: ", Code(summaries)))
    if link is not None:
        notes.append(("more: ", Link(link)))
    return NightNews(Message(title, parts, notes).shortened(summaries), is_bad, is_clear)


def _notes(nights: Nights, run: StoredRun, told: int, news: Sequence[News]) -> list[Text]:
    """What differs from the last night that was told of, and the commands for the cells that are news in this run."""
    own = {cell.case for cell in cells_of(nights.history, run)}
    cases = {
        kind: [state.seen.case for state in cells_of_kind(news, kind) if state.seen.case in own] for kind in NewsKind
    }
    notes: list[Text] = []
    facts = nights.history.facts(run.name)
    before = _run_before(nights, run, told)
    if before is not None and any(cases.values()):
        differs = differences(nights.history.facts(before.name), facts)
        notes.append(("differs from ", Code(before.name), ": ", Code(differs, MOST_LETTERS_OF_DIFFERENCES)))
    worse = [*cases[NewsKind.NEW], *cases[NewsKind.GREW]]
    return [*notes, *commands(facts.command, [*worse, *cases[NewsKind.UNMEASURED]], worse)]


def _run_before(nights: Nights, run: StoredRun, told: int) -> StoredRun | None:
    """The newest run of the same suite that has results, in the nights that were told of."""
    earlier = [one for night in nights.nights[:told] for one in night.runs if one.suite == run.suite]
    return next((one for one in reversed(earlier) if not one.problem), None)
