"""The commands that a reader of a message gives next: measure again, and accept."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from hybrid_ops.report.message import keyword
from hybrid_ops.report.messages.text import Code, Text

MOST_CASES = 4
"""How many cases a command names; of more it names the models."""
MOST_LETTERS_OF_A_COMMAND = 2500
LEFT_OUT = ("--perf-run-id", "-k")
"""The options of a command that are left out: the run's own name and its choice of cases."""
UPDATE = "--update-baselines"


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
        notes.append(("measure again: ", Code(_called(command, again), MOST_LETTERS_OF_A_COMMAND)))
    if accepted := selection(worse):
        notes.append(
            ("accept, if it is intended: ", Code(_called(command, accepted, UPDATE), MOST_LETTERS_OF_A_COMMAND))
        )
    return notes


def selection(cases: Iterable[str]) -> str:
    """The expression of `-k` that chooses cases, or their models where they are many; empty for none."""
    chosen = list(dict.fromkeys(cases))
    if len(chosen) > MOST_CASES:
        chosen = list(dict.fromkeys(case.partition("/")[0] + "/" for case in chosen))
    return " or ".join(f"({keyword(case)})" if "@" in case and len(chosen) > 1 else keyword(case) for case in chosen)


def _called(command: str | None, chosen: str, *further: str) -> str:
    """The command of a run without the run's own name, with an expression in place of its own."""
    kept = []
    is_value = False
    for word in shlex.split(command or "pytest --perf"):
        if not is_value and word not in (*LEFT_OUT, UPDATE) and not word.startswith(f"{LEFT_OUT[0]}="):
            kept.append(word)
        is_value = word in LEFT_OUT and not is_value
    return shlex.join([*kept, *further, "-k", chosen])
