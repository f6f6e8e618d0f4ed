"""A shell's command over several lines, where it is longer than a terminal is wide."""

from __future__ import annotations

import re
import shlex
import textwrap

EXPRESSIONS = ("-k", "-m")
"""The options of pytest before an expression, in which one space is as good as three."""
INDENT, CONTINUED = "  ", " \\"


def shell_lines(command: str, width: int) -> list[str]:
    """The command in lines of at most `width` columns, each but the last continued by a backslash.

    A word that is longer is broken only where that changes nothing: at the spaces of an expression of `-k`.
    """
    if len(command) <= width:
        return [command]
    lines = [""]
    before = ""
    for word in shlex.split(command):
        first, *rest = _parts(word, before, width - len(INDENT + CONTINUED))
        before = word
        if lines[-1] and len(f"{lines[-1]} {first}{CONTINUED}") > width:
            lines[-1] += CONTINUED
            lines.append(INDENT + first)
        else:
            lines[-1] += f" {first}" if lines[-1] else first
        for part in rest:  # within double quotes the shell drops a backslash at the end of a line, and the line's end
            lines[-1] += "\\"
            lines.append(INDENT + part)
    return lines


def _parts(word: str, before: str, width: int) -> list[str]:
    quoted = shlex.quote(word)
    if len(quoted) <= width or before not in EXPRESSIONS:
        return [quoted]
    escaped = re.sub(r'(["\\$`])', r"\\\1", word)
    *firsts, last = textwrap.wrap(escaped, width - 2, break_long_words=False, break_on_hyphens=False)
    parts = [*(f"{part} " for part in firsts), f'{last}"']
    return [f'"{parts[0]}', *parts[1:]]
