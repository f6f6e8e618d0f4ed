"""The exceptions for what a person can mend: bad files, options and names, and a disk that takes no more."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from pydantic import ValidationError

MOST_FAULTS = 5
"""How many faults of one file are written out; the others are counted."""


class InputError(Exception):
    """Bad input. The message is one line that names the file, the field and the mend."""


class CannotWrite(InputError):
    """The disk takes no more of what was measured. The input is good, so a night ends as one that was not measured."""


def refuses_to_be_written(error: BaseException) -> bool:
    """Whether a disk or file system, not the caller's mistake, is why something could not be written."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR"))
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def describe_validation(path: Path, error: ValidationError) -> InputError:
    """The faults of a file in one line: `FILE: field.path: what is wrong; ...`."""
    faults = []
    for fault in error.errors(include_url=False):
        field = ".".join(str(part) for part in fault["loc"]) or "(top level)"
        message = fault["msg"].removeprefix("Value error, ")
        whole = fault["type"] == "missing" or isinstance(fault["input"], dict)
        given = "" if whole else f" (given: {fault['input']!r})"
        faults.append(f"{field}: {message}{given}")
    if len(faults) > MOST_FAULTS:
        faults[MOST_FAULTS:] = [f"and {len(faults) - MOST_FAULTS} more"]
    return InputError(f"{path}: " + "; ".join(faults))
