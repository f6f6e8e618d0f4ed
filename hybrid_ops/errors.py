"""The one exception for what a person can mend: bad files, options and names."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

MOST_FAULTS = 5
"""How many faults of one file are written out; the others are counted."""


class InputError(Exception):
    """Bad input. The message is one line that names the file, the field and the mend."""


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
