"""The comment on a pull request: what its runs show. It has inside what it has told, so it needs no other storage."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hybrid_ops.errors import InputError
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.messages.causes import Cause, bad_keys, news_since, told_after
from hybrid_ops.report.messages.commands import commands
from hybrid_ops.report.messages.entries import (
    count_cells,
    counts,
    news_parts,
    still_bad,
    unmeasured_entries,
    worse_entries,
)
from hybrid_ops.report.messages.markdown import MOST_LETTERS_OF_A_COMMENT, markdown
from hybrid_ops.report.messages.states import (
    BASELINE,
    CellState,
    Condition,
    Key,
    Seen,
    States,
    is_beyond,
    seen_in_results,
    states_after,
)
from hybrid_ops.report.messages.text import Code, Link, Message, Part, Text
from hybrid_ops.report.summary import SUMMARY_FILE

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""The names that keep several comments on one pull request apart."""
MOST_BYTES = 8 << 20
"""What a comment may unpack to: anyone may write comments, so what is read from them is bounded."""
_Cell = tuple[str, str, str, str, str | None, float | None, float, Value | None, str | None]
"""Engine, aspect, case, metric, and the fields of its state behind what was seen of it."""
_TOLD: TypeAdapter[tuple[list[_Cell], list[tuple[str, str, bool, float | None]]]] = TypeAdapter(
    tuple[list[_Cell], list[tuple[str, str, bool, float | None]]]
)


@dataclass(frozen=True)
class Remembered:
    """What a comment has told: the cells that were bad, and the causes with their sizes."""

    states: States = field(default_factory=dict)
    told: Mapping[Cause, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasuredRun:
    """A run whose results are told, and its folder."""

    results: RunResults
    folder: Path


def marker(name: str) -> str:
    """How a comment of this name begins. It is HTML that no reader sees."""
    return f"<!-- hybrid-perf comment {name}: "


def remembered(body: str, name: str) -> Remembered:
    """What a comment has told; nothing where it cannot be read, as after a change by hand."""
    packed = body.removeprefix(marker(name)).partition(" ")[0]
    try:
        unpacked = zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), MOST_BYTES)
        cells, told = _TOLD.validate_json(unpacked)
    except (binascii.Error, zlib.error, ValidationError, ValueError):
        return Remembered()
    states = {}
    for engine, aspect, case, metric, since, size, tolerance, baseline, unmeasured_since in cells:
        seen = Seen(case, metric, engine, aspect, Condition.UNDECIDED, "not measured in this run", run="")
        states[case, metric] = CellState(seen, since, size, tolerance, baseline, unmeasured_since)
    return Remembered(states, {Cause(engine, of, unmeasured): size for engine, of, unmeasured, size in told})


def _packed(states: States, told: Mapping[Cause, float | None]) -> str:
    cells = [
        (
            state.seen.engine,
            state.seen.aspect,
            *key,
            state.worse_since,
            state.size,
            state.tolerance,
            state.baseline,
            state.unmeasured_since,
        )
        for key, state in states.items()
        if state.is_worse or state.is_unmeasured
    ]
    causes = [(cause.engine, cause.of, cause.is_unmeasured, size) for cause, size in told.items()]
    document = json.dumps([cells, causes], separators=(",", ":"))
    return base64.b64encode(zlib.compress(document.encode(), 9)).decode()


def comment_body(
    runs: Sequence[MeasuredRun], base: States, known: Remembered, name: str, link: str | None
) -> str | None:
    """The comment that runs ask for; None where the one that is there still tells all.

    Parameters
    ----------
    runs: in order of time, of one device class
    base: what is known of the target branch, which is not blamed on the pull request
    known: what the comment has told so far; nothing where there is none
    link: where a reader can see more, or None

    Raises InputError where too much is bad for one comment.
    """
    already: dict[Key, CellState] = {}
    states: dict[Key, CellState] = dict(known.states)
    for run in runs:
        seen = seen_in_results(run.results)
        excused = {one.key for one in seen if _was_so_before(one, base)}
        already |= states_after({}, [one for one in seen if one.key in excused])
        states = {key: state for key, state in states.items() if key not in excused}
        states = states_after(states, [one for one in seen if one.key not in excused])
    news = news_since(known.told, known.states, states)
    if not news and bad_keys(states) == bad_keys(known.states):
        return None
    parts = news_parts(news, known.states, states)
    still = still_bad(news, states)
    entries = [
        *worse_entries([state for state in still if state.is_worse], states),
        *unmeasured_entries(state for state in still if not state.is_worse),
    ]
    parts += [Part("Still bad, as told before", entries)] if entries else []
    told_counts = counts(news) + ([f"{count_cells(len(still))} still bad"] if still else [])
    if not bad_keys(states):
        told_counts.append("nothing is worse now")
    if already:
        entries = [
            *worse_entries([state for state in already.values() if state.is_worse], {**states, **already}),
            *unmeasured_entries(state for state in already.values() if state.is_unmeasured),
        ]
        parts.append(Part("Already so on the target branch, and not blamed on this change", entries))
    device = runs[-1].results.device.device_class
    title: Text = ("Performance on ", Code(device), f": {', '.join(told_counts)}")
    notes = [note for run in runs for note in _notes(run, states)]
    if link is not None:
        notes.append(("more: ", Link(link)))
    summaries = ", ".join(str(run.folder / SUMMARY_FILE) for run in runs)
    text = markdown(Message(title, parts, notes).shortened(summaries))
    body = f"{marker(name)}{_packed(states, told_after(known.told, states))} -->\n{text}"
    if len(body) > MOST_LETTERS_OF_A_COMMENT:
        raise InputError(
            f"{len(bad_keys(states))} bad cells are more than one comment can keep ({MOST_LETTERS_OF_A_COMMENT} "
            "letters): give the runs in parts, each with a --name of its own"
        )
    return body


def _was_so_before(seen: Seen, base: States) -> bool:
    """Whether a cell is bad as it was on the target branch, and not by more."""
    known = base.get(seen.key)
    if known is None:
        return False
    if seen.condition is Condition.WORSE:
        return known.is_worse and not is_beyond(seen.size, known.size, seen.tolerance)
    return seen.condition is Condition.UNMEASURED and known.is_unmeasured


def _notes(run: MeasuredRun, states: States) -> list[Text]:
    """Which run it was, where its summary is, and the commands for the cells of it that are bad."""
    results = run.results
    own = {cell.case for cell in results.cells}
    bad = [state for state in states.values() if state.seen.case in own and (state.is_worse or state.is_unmeasured)]
    worse = [state.seen.case for state in bad if state.is_worse and state.seen.compared_with == BASELINE]
    notes: list[Text] = [
        ("run ", Code(results.run_id), ", source ", Code(results.versions.get("source", "not recorded"))),
        ("summary: ", Code(str(run.folder / SUMMARY_FILE))),
    ]
    return notes + commands(results.command, [state.seen.case for state in bad], worse)
