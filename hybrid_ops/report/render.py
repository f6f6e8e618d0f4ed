"""Sections as lines of a terminal, and as Markdown."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence

from hybrid_ops.models.sizes import format_table
from hybrid_ops.report.report import Block, Command, Lines, Preformatted, Section, Shown, Style, Table

StyledLine = tuple[str, Style]
WIDTH = 100
"""Columns of a terminal that sentences and commands fit into. A table is as wide as its cells."""
INDENT = "    "
"""Before what continues a line, and before the commands under it."""


def terminal_lines(section: Section, is_verbose: bool) -> list[StyledLine]:
    """The lines of a section, without its title. Blocks are kept apart by an empty line where one is preformatted."""
    shown = {Shown.ALWAYS, Shown.TERMINAL, Shown.VERBOSE if is_verbose else Shown.BRIEF}
    lines: list[StyledLine] = []
    before: Block | None = None
    for block in section.blocks:
        if block.shown not in shown:
            continue
        if before is not None and Preformatted in (type(block), type(before)):
            lines.append(("", Style.PLAIN))
        lines += _styled(block)
        before = block
    return lines


def _styled(block: Block) -> Iterator[StyledLine]:
    if isinstance(block, Table):
        styles = [Style.PLAIN, *(block.styles or [Style.PLAIN] * len(block.rows))]
        yield from zip(aligned([block.headings, *block.rows]), styles)
    elif isinstance(block, Command):
        for line in command_lines(block):
            yield line, Style.PLAIN
    elif isinstance(block, Lines):
        for line in block.lines:
            # One that is indented is a path, which is copied whole.
            for part in [line] if line.startswith(INDENT) else _wrapped(line, WIDTH) or [""]:
                yield part, block.style
    else:
        for line in block.lines:
            yield line, Style.PLAIN


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)


def command_lines(block: Command) -> list[str]:
    """A command in lines that a shell reads as one: they end between its words."""
    words: list[str] = []
    for word in map(shlex.quote, shlex.split(block.command)):
        if words and words[-1].startswith("-") and " " not in words[-1] and not word.startswith("-"):
            words[-1] += f" {word}"  # an option and its value stay together
        else:
            words.append(word)
    first = f"{INDENT}{block.purpose}: "
    if len(first + " ".join(words)) <= WIDTH:
        return [first + " ".join(words)]
    lines = [f"{INDENT}{words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + len("  \\") > WIDTH:
            lines[-1] += " \\"
            lines.append(f"{INDENT}{INDENT}{word}")
        else:
            lines[-1] += f" {word}"
    return [first.rstrip(), *lines]


def section_markdown(section: Section) -> str:
    """A section as Markdown, without its title."""
    shown = (Shown.ALWAYS, Shown.SUMMARY, Shown.BRIEF)
    return "\n\n".join(_markdown(block) for block in section.blocks if block.shown in shown)


def _markdown(block: Block) -> str:
    if isinstance(block, Table):
        return format_table([[cell.replace("|", "\\|") for cell in row] for row in (block.headings, *block.rows)])
    if isinstance(block, Preformatted):
        return "\n".join(["```", *block.lines, "```"])
    if isinstance(block, Command):
        return f"  {block.purpose}: `{block.command}`"
    return "\n".join(f"- {line.strip()}" for line in block.lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns; those between the second and the last to the right, as numbers are."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {0, 1, len(widths) - 1}
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
