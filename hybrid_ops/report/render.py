"""Sections as lines of a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybrid_ops.models.sizes import format_table
from hybrid_ops.report.report import Block, Lines, Preformatted, Section, Shown, Style, Table

StyledLine = tuple[str, Style]


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
    else:
        style = block.style if isinstance(block, Lines) else Style.PLAIN
        for line in block.lines:
            yield line, style


def section_markdown(section: Section) -> str:
    """A section as Markdown, without its title."""
    shown = (Shown.ALWAYS, Shown.SUMMARY, Shown.BRIEF)
    return "\n\n".join(_markdown(block) for block in section.blocks if block.shown in shown)


def _markdown(block: Block) -> str:
    if isinstance(block, Table):
        return format_table([[cell.replace("|", "\\|") for cell in row] for row in (block.headings, *block.rows)])
    if isinstance(block, Preformatted):
        return "\n".join(["```", *block.lines, "```"])
    return "\n".join(f"- {line}" for line in block.lines)


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
