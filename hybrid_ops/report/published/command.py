"""`hybrid-perf published`: what others have published, in their own layouts, and what it is by our accounting."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import format_table
from hybrid_ops.report.published.accounting import accounts
from hybrid_ops.report.published.document import PACKAGED, PUBLISHED_FOLDER, PublishedDocument, read_documents
from hybrid_ops.report.published.layouts import document_lines

PARTS = ("tables", "recomputed")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "published",
        help="figures that others have published, and what they are by our accounting",
        description="Print published documents: their tables in their own layout, then what can be recomputed of them.",
    )
    parser.add_argument("documents", nargs="*", metavar="DOCUMENT", help="names of documents (default: all)")
    parser.add_argument(
        "--baselines", type=Path, metavar="DIR", help="read DIR/published instead of what ships with the suite"
    )
    parser.add_argument("--only", choices=PARTS, help="the documents' own tables, or what is recomputed of them")
    parser.add_argument("--list", action="store_true", help="names, titles and hardware of the documents")
    parser.add_argument("--json", action="store_true", help="every figure and what is recomputed, as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the chosen documents. Raises InputError for a name that is not there and for a file that is not sound."""
    found = read_documents(PACKAGED if args.baselines is None else args.baselines / PUBLISHED_FOLDER)
    if unknown := [name for name in args.documents if name not in found]:
        raise InputError(f"no document is named {unknown[0]!r}; there are {', '.join(found)}")
    chosen = {name: found[name] for name in args.documents or found}
    if args.list:
        rows = [["Name", "Title", "Hardware"]]
        print(format_table([*rows, *([name, one.title, one.hardware] for name, one in chosen.items())]))
    elif args.json:
        print(json.dumps({name: _as_dict(name, one) for name, one in chosen.items()}, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join("\n".join(_text(name, one, args.only)) for name, one in chosen.items()))
    return 0


def _text(name: str, document: PublishedDocument, only: str | None) -> Iterator[str]:
    if only != "recomputed":
        if only is None:
            yield from (f"# {document.title}", "", f"{document.source}; date: {document.date}; {document.hardware}", "")
        yield from document_lines(document)
    if only != "tables":
        yield from ([""] if only is None else [])
        yield from recomputed_lines(name, document)


def recomputed_lines(name: str, document: PublishedDocument) -> Iterator[str]:
    """Published beside recomputed, a table for each table of the document, and under them what cannot be true."""
    yield f"# {document.title}: recomputed"
    contradictions: list[str] = []
    for table, account in accounts(name, document):
        contradictions += [text for text in account.contradictions if text not in contradictions]
        if not account.checks:
            continue
        rows = [["Figure", "Quantity", "Published", "Recomputed", "Difference"]]
        rows += [[one.place, one.quantity, one.published, one.recomputed, one.difference] for one in account.checks]
        yield from ("", f"## {table.name}", "", account.how, "", *format_table(rows).splitlines())
    yield from ("", "## Figures that cannot all be true, or do not mean what their name says", "")
    yield from (f"- {text}" for text in contradictions) if contradictions else ["None was found."]


def _as_dict(name: str, document: PublishedDocument) -> dict[str, object]:
    about = document.model_dump(include={"title", "source", "date", "hardware", "software", "conditions"})
    figures = [
        {
            "table": figure.table,
            "row": figure.row[0],
            "column": figure.column,
            "text": figure.text,
            "numbers": [str(number) for number in figure.numbers],
            "facts": figure.facts.model_dump(exclude_none=True),
        }
        for figure in document.figures()
    ]
    failures = [
        {"table": table.name, **failure.model_dump()} for table in document.tables for failure in table.failures
    ]
    told = [{"table": table.name, **asdict(account)} for table, account in accounts(name, document)]
    return {**about, "figures": figures, "failures": failures, "recomputed": told}
