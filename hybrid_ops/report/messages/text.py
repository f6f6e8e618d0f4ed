"""A message as text that is not yet of any form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

MOST_ENTRIES = 20
"""How many entries a message has; the others are counted."""
MOST_LETTERS = 300
"""How long one piece of text from outside is, unless it asks for more."""
URL_LETTERS = "%/:=&?~#+!$,;'@()[]"
"""What an address keeps as it is; whatever else could end it is escaped."""


@dataclass(frozen=True)
class Code:
    """Text that comes from models, errors, machines or command lines. It is shown as it is and never as markup."""

    text: str
    most: int = MOST_LETTERS
    """How many letters it may have before it is cut."""

    @property
    def shown(self) -> str:
        """On one line, cut where it is too long."""
        line = " ".join(self.text.split())
        return line if len(line) <= self.most else line[: self.most - 1] + "…"


@dataclass(frozen=True)
class Link:
    """An address that a reader can follow."""

    url: str


Text = tuple[str | Code | Link, ...]
"""Words of this suite, text from outside, and addresses."""


@dataclass(frozen=True)
class Entry:
    """One cause: what happened to it, and lines with the figures."""

    head: Text
    lines: Sequence[Text] = ()


@dataclass(frozen=True)
class Part:
    """Entries of one kind."""

    title: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Message:
    """What is told at once."""

    title: Text
    parts: Sequence[Part]
    notes: Sequence[Text] = ()
    """What concerns all entries: what differs, where the summary is, which commands to give."""

    def shortened(self, more_in: str) -> Message:
        """With the first `MOST_ENTRIES` entries, and a note that says how many are left out and where they are."""
        left = MOST_ENTRIES
        parts = []
        for part in self.parts:
            if left > 0:
                parts.append(replace(part, entries=part.entries[:left]))
            left -= len(part.entries)
        if left >= 0:
            return self
        return replace(self, parts=parts, notes=[(f"… and {-left} more: see ", Code(more_in)), *self.notes])


class Form(ABC):
    """How a receiver wants text: one class, in one file."""

    bullet: ClassVar[str]
    indent: ClassVar[str]

    @abstractmethod
    def words(self, text: str) -> str:
        """Words of this suite."""

    @abstractmethod
    def code(self, text: str) -> str:
        """One line of text from outside."""

    @abstractmethod
    def strong(self, text: str) -> str:
        """A title that is already written in this form."""

    @abstractmethod
    def link(self, url: str) -> str:
        """An address."""

    def write(self, text: Text) -> str:
        return "".join(map(self._piece, text))

    def _piece(self, piece: str | Code | Link) -> str:
        if isinstance(piece, Code):
            return self.code(piece.shown)
        return self.link(piece.url) if isinstance(piece, Link) else self.words(piece)

    def lines(self, message: Message) -> list[str]:
        """The whole message, line by line."""
        lines = [self.strong(self.write(message.title))]
        for part in message.parts:
            lines += ["", self.strong(self.words(part.title))]
            for entry in part.entries:
                lines.append(self.bullet + self.write(entry.head))
                lines += [self.indent + self.write(line) for line in entry.lines]
        return lines + ([""] + [self.bullet + self.write(note) for note in message.notes] if message.notes else [])
