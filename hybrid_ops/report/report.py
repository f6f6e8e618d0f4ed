"""What a report is: one way to tell a reader of a run. One class, in one file."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from hybrid_ops.regression.results import RunResults


class Style(StrEnum):
    """How a terminal shows a line."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


class Shown(StrEnum):
    """Where a block is shown."""

    ALWAYS = "always"
    BRIEF = "brief"
    """In the summary, and on a terminal without `-v`."""
    VERBOSE = "verbose"
    """On a terminal with `-v`."""
    TERMINAL = "terminal"
    SUMMARY = "summary"


@dataclass(frozen=True)
class Lines:
    """Sentences, one a line."""

    lines: Sequence[str]
    style: Style = Style.PLAIN
    shown: Shown = Shown.ALWAYS


@dataclass(frozen=True)
class Preformatted:
    """Lines whose spaces matter."""

    lines: Sequence[str]
    shown: Shown = Shown.ALWAYS


@dataclass(frozen=True)
class Table:
    """Rows under headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Sequence[Style] = ()
    """One a row; plain where there are none."""
    shown: Shown = Shown.ALWAYS


@dataclass(frozen=True)
class Command:
    """A command that the reader can give next."""

    purpose: str
    """`measure again`"""
    command: str
    shown: Shown = Shown.ALWAYS


Block = Lines | Preformatted | Table | Command


@dataclass(frozen=True)
class Section:
    """What a report says to the terminal and in the summary."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


class Report(ABC):
    """One way to tell a reader of a run: a section of terminal and summary, files, or both.

    To add one, subclass it in a file of its own and list an instance in `report.REPORTS`, or call `report.register`
    from a pytest plugin.
    """

    name: ClassVar[str]

    def section(self, run: RunResults) -> Section | None:
        """What terminal and summary show; None where there is nothing to say."""
        return None

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        """Write its files into the run's folder and return their paths. Raises InputError where it cannot."""
        return []
