"""JSON objects of other programs' files, one or several in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.report.interchange.formats import Source

Document = dict[str, Any]
MOST_LEVELS = 50
"""How deep an object may be nested."""
LARGEST = 1e300


def json_objects(source: Source, mend: str) -> Iterator[Document]:
    """The objects of a file, one below the other. Raises InputError for what is no JSON, or no object.

    `mend` says what the file should be.
    """
    decoder, text = json.JSONDecoder(), source.text.rstrip()
    place = _next(text, 0)
    while place < len(text):
        try:
            document, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source.path}: not JSON: {error}; {mend}") from None
        if not isinstance(document, dict):
            raise InputError(f"{source.path}: a JSON {type(document).__name__}, where an object is needed; {mend}")
        _refuse_what_is_not_json(document, source, mend)
        yield document
        place = _next(text, end)
    if not text:
        raise InputError(f"{source.path}: it is empty; {mend}")


def _next(text: str, place: int) -> int:
    """Where the next object begins."""
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number, and one to reckon with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _refuse_what_is_not_json(document: Document, source: Source, mend: str) -> None:
    """Raise InputError for a number that only Python reads, and for what is nested too deep to be written again."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), document)]
    while waiting:
        place, value = waiting.pop()
        if len(place) > MOST_LEVELS:
            raise InputError(f"{source.path}: {place[0]}: it is nested more than {MOST_LEVELS} levels deep; {mend}")
        if isinstance(value, float) and not math.isfinite(value):
            where = ".".join(place)
            raise InputError(f"{source.path}: {where}: {value} is no JSON; mend the number or write null")
        if isinstance(value, dict):
            waiting += [((*place, key), one) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [((*place, str(index)), one) for index, one in enumerate(value)]
