"""Published tables in their documents' own layouts, so that a reader can compare them line by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hybrid_ops.report.published.document import PublishedDocument, PublishedTable
from hybrid_ops.report.serving import WIDTH, block_line

LLAMA_BENCH_WIDTHS = {"model": 30, "size": 10, "params": 10, "backend": 10, "ngl": 3, "fa": 2, "test": 15, "t/s": 20}
"""The least widths of llama-bench's Markdown."""


def document_lines(document: PublishedDocument) -> list[str]:
    """All tables and failures of a document in its order, each below the document's own heading."""
    lines: list[str] = []
    for table in document.tables:
        parts = [table.heading.splitlines(), FORMS[table.form](table) if table.rows else []]
        parts += [[_failure(failure.reason, failure.link)] for failure in table.failures]
        for part in parts:
            lines += [*part, ""] if part else []
        if table.below:
            lines += [*table.below.strip("\n").splitlines(), ""]
    return lines[:-1]


def _failure(reason: str, link: str | None) -> str:
    return f"Failed: {reason}" + (f" Beaker: {link}" if link else "")


def _markdown(table: PublishedTable) -> list[str]:
    rows = [[column.heading for column in table.columns], *table.rows]
    if table.rule:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return [lines[0], table.rule, *lines[1:]]
    padded = _padded(table, rows, {})
    lines = [f"| {' | '.join(row)} |" for row in padded]
    rule = "|".join(
        "-" * (len(cell) + 1) + (":" if column.align == "right" else "-")
        for column, cell in zip(table.columns, padded[0])
    )
    return [lines[0], f"|{rule}|", *lines[1:]]


def _llama_bench(table: PublishedTable) -> list[str]:
    rows = _padded(table, [[column.heading for column in table.columns], *table.rows], LLAMA_BENCH_WIDTHS)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    rule = " | ".join(
        "-" * (len(cell) - 1) + (":" if column.align == "right" else "-")
        for column, cell in zip(table.columns, rows[0])
    )
    return [lines[0], f"| {rule} |", *lines[1:]]


def _padded(table: PublishedTable, rows: list[list[str]], least: Mapping[str, int]) -> list[list[str]]:
    widths = [
        max(column.width or least.get(column.heading, 0), *(len(row[index]) for row in rows))
        for index, column in enumerate(table.columns)
    ]
    return [
        [
            cell.rjust(width) if column.align == "right" else cell.ljust(width)
            for column, cell, width in zip(table.columns, row, widths)
        ]
        for row in rows
    ]


def _grid(table: PublishedTable) -> list[str]:
    """The grid of `tabulate` below a box with the title, as Attention Gym prints it: points below each other."""
    columns = []
    for index, column in enumerate(table.columns):
        cells = [row[index] for row in table.rows]
        if column.text:
            width = max(map(len, [column.heading, *cells]))
            columns.append([cell.ljust(width) for cell in [column.heading, *cells]])
            continue
        after = max(len(cell) - cell.find(".") for cell in cells if "." in cell)
        # A whole number has no point: its place stays empty.
        aligned = [cell + " " * (after - (len(cell) - cell.find(".") if "." in cell else 0)) for cell in cells]
        width = max(len(column.heading) + 2, *map(len, aligned))
        columns.append([cell.rjust(width) for cell in [column.heading, *aligned]])
    lines = [f"| {' | '.join(cells)} |" for cells in zip(*columns)]
    rule = "+".join("-" * (len(cells[0]) + 2) for cells in columns)
    inner = len(lines[0]) - 2
    box = [f"╔{'═' * inner}╗", f"║{table.title.center(inner)}║", f"╚{'═' * inner}╝"]
    body = [line for row in lines[1:] for line in (row, f"+{rule}+")]
    note = [table.note] if table.note else []
    return [*box, *note, f"+{rule}+", lines[0], f"+{rule.replace('-', '=')}+", *body]


def _mask(table: PublishedTable) -> list[str]:
    [row] = table.rows
    return ["Block Mask:", row[0] if len(row) == 1 else f"BlockMask(shape=({row[0]}), sparsity={row[1]},"]


def _serving(table: PublishedTable) -> list[str]:
    """The result block of `vllm bench serve`; a row without a value is the line above a group."""
    body = [block_line(label, value) if value else label.center(WIDTH, "-") for label, value in table.rows]
    return [" Serving Benchmark Result ".center(WIDTH, "="), *body, "=" * WIDTH]


def _list(table: PublishedTable) -> list[str]:
    return [f"- {label}: {figure}" for label, figure in table.rows]


def _columns(table: PublishedTable) -> list[str]:
    widths = [column.width or len(column.heading) for column in table.columns]
    rows = [[column.heading for column in table.columns], *table.rows]
    lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [lines[0], "-" * sum(widths), *lines[1:]]


def _lines(table: PublishedTable) -> list[str]:
    return [row[0] for row in table.rows]


FORMS: Mapping[str, Callable[[PublishedTable], list[str]]] = {
    "markdown": _markdown,
    "llama-bench": _llama_bench,
    "grid": _grid,
    "mask": _mask,
    "serving": _serving,
    "list": _list,
    "columns": _columns,
    "lines": _lines,
}
