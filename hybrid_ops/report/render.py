"""Sections as lines of a terminal, and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from hybrid_ops.models.sizes import format_table
from hybrid_ops.report.report import Block, Command, Lines, Preformatted, Section, Shown, Style, Table
from hybrid_ops.report.shell import shell_lines

StyledLine = tuple[str, Style]
WIDTH = 100
"""Columns of a terminal that everything fits into but a path, which is copied whole."""
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
        yield from _table(block)
    elif isinstance(block, Command):
        for line in command_lines(block):
            yield line, Style.PLAIN
    elif isinstance(block, Lines):
        for line in block.lines:
            # One that is indented is a path, which is copied whole.
            for part in [line] if line.startswith(INDENT) else wrapped(line):
                yield part, block.style
    else:
        for line in block.lines:
            for part in wrapped(line):
                yield part, Style.PLAIN


def _table(table: Table) -> Iterator[StyledLine]:
    """A table; where it is too wide each row's first column stands above the others, once for rows that share it."""
    rows = [table.headings, *table.rows]
    styles = [Style.PLAIN, *(table.styles or [Style.PLAIN] * len(table.rows))]
    lines = aligned(rows)
    if max(map(len, lines)) <= WIDTH:
        yield from zip(lines, styles)
        return
    above = None
    for row, line, style in zip(rows, aligned([row[1:] for row in rows], words=1), styles):
        if row[0] != above:
            above = row[0]
            yield from ((part, Style.PLAIN) for part in wrapped(above))
        yield from ((part, style) for part in wrapped(f"  {line}"))


def wrapped(line: str) -> list[str]:
    """A line in as many as it takes. A name that is longer than they are is broken."""
    if len(line) <= WIDTH:
        return [line]
    return textwrap.wrap(line, WIDTH, subsequent_indent=INDENT, break_on_hyphens=False)


def command_lines(block: Command) -> list[str]:
    """A command in lines that a shell reads as one."""
    first = f"{INDENT}{block.purpose}: "
    if len(first + block.command) <= WIDTH:
        return [first + block.command]
    return [first.rstrip(), *(INDENT + line for line in shell_lines(block.command, WIDTH - len(INDENT)))]


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


def aligned(rows: Sequence[Sequence[str]], words: int = 2) -> list[str]:
    """Rows as lines with aligned columns: the first `words` and the last to the left, others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {*range(words), len(widths) - 1}
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
