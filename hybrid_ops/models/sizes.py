"""Sizes in bytes and lists of lengths, as people type and read them."""

from __future__ import annotations

import argparse
import re

_UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", start=1)},
}


def parse_bytes(text: str) -> int:
    """Bytes of a size such as `62.5GB` (decimal), `16GiB` (binary) or `1000000`. Raises argparse's error."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in bytes; write 62.5GB, 16GiB or 1000000")
    whole, _, decimals = match[1].partition(".")
    # In whole numbers, because 62.89 × 10⁹ in floating point may lose a byte and thereby a block.
    return int(whole + decimals) * _UNITS[match[2]] // 10 ** len(decimals)


def parse_lengths(text: str) -> list[int]:
    """Lengths in tokens such as `1024,4096`. Raises argparse's error."""
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of lengths in tokens; write 1024,4096")
    return lengths


def parse_count(text: str) -> int:
    """A whole number of at least 1. Raises argparse's error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def format_quantity(value: float, unit: str) -> str:
    """A number with a decimal prefix and four digits: `8.101 GB`, `26.57 TFLOP`."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if abs(value) < 1000:
            return f"{value:.4g} {prefix}{unit}"
        value /= 1000
    return f"{value:.4g} E{unit}"


def format_table(rows: list[list[str]]) -> str:
    """Rows under a heading row, as a Markdown table with aligned columns: words to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        cells = [
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths))
        ]
        return f"| {' | '.join(cells)} |"

    rule = (
        "|" + "|".join(f"{'-' * (width + 1)}{'-' if column == 0 else ':'}" for column, width in enumerate(widths)) + "|"
    )
    return "\n".join([line(rows[0]), rule, *(line(row) for row in rows[1:])])
