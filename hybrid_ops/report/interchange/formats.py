"""What a format is: files that other programs read or write, and what of a run they hold. One file a format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults


@dataclass(frozen=True)
class Part:
    """One file of what a format makes of a run."""

    name: str
    """What tells it from the others: a case, a direction."""
    text: str


@dataclass(frozen=True)
class Source:
    """A file that is read, and what its reader cannot know of it."""

    path: Path
    text: str
    case: str | None
    """What to call its case; None for a name that follows from the file."""
    device_class: str
    """What it was measured on."""


def measured_number(cell: CellResult) -> int | float | None:
    """The value of a cell; None where it was not measured or is a hash."""
    return cell.value if cell.verdict.is_measured and not isinstance(cell.value, str) else None


class Writer(ABC):
    """A format that runs are written in. To add one, subclass it in a file of its own and list it in `WRITERS`."""

    name: ClassVar[str]
    parts_are: ClassVar[str]
    """What its parts are, for whoever chooses one."""

    @abstractmethod
    def write(self, run: RunResults) -> Sequence[Part]:
        """What the format has of a run, file by file. Raises InputError where that is nothing."""


class Reader(ABC):
    """A format that is read as a run. To add one, subclass it in a file of its own and list it in `READERS`."""

    name: ClassVar[str]

    @abstractmethod
    def read(self, source: Source) -> RunResults:
        """The run that a file holds. Raises InputError, which names the file, the field and the mend."""
