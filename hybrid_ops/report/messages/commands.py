"""The commands that a reader of a message gives next, in the form of a message."""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_ops.report.commands import UPDATE, called, selection
from hybrid_ops.report.messages.text import Code, Text

MOST_LETTERS_OF_A_COMMAND = 2500


def commands(command: str | None, bad: Iterable[str], worse: Iterable[str]) -> list[Text]:
    """How to measure cases again as the run did, and how to accept those that are worse; nothing for none.

    Parameters
    ----------
    command: how the run was called
    bad: the cases that are worse or could not be measured
    worse: the cases that are worse
    """
    notes: list[Text] = []
    if again := selection(bad):
        notes.append(("measure again: ", Code(called(command, again), MOST_LETTERS_OF_A_COMMAND)))
    if accepted := selection(worse):
        notes.append(
            ("accept, if it is intended: ", Code(called(command, accepted, UPDATE), MOST_LETTERS_OF_A_COMMAND))
        )
    return notes
