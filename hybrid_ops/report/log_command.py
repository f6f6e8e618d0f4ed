"""`hybrid-perf log`: append a run to a benchmark log."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.measure.store import write_text
from hybrid_ops.regression.results import read_results
from hybrid_ops.report.benchmark_log import HEAD, log_entry

DEFAULT_LOG = Path("benchmark_log.md")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "log",
        help="append a run to a benchmark log in Markdown",
        description="Append a dated entry of a run's generations: hardware, a table a metric, notes.",
    )
    parser.add_argument("results", metavar="RESULTS", type=Path, help="a run's folder or its results.json")
    parser.add_argument("--file", type=Path, default=DEFAULT_LOG, metavar="FILE", help=f"default {DEFAULT_LOG}")
    parser.add_argument("--title", default="", help="what the entry is about (default: the run's id)")
    parser.add_argument("--note", action="append", default=[], metavar="TEXT", help="a line of notes; repeatable")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the entry and write nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Append the entry, the file whole or not at all; a run that it has already is left alone. Raises InputError."""
    results = read_results(args.results)
    try:
        entry = log_entry(results, args.title, args.note)
    except InputError as error:
        raise InputError(f"{args.results}: {error}") from None
    if args.only_print:
        print(entry)
        return 0
    try:
        text = args.file.read_text(encoding="utf-8") if args.file.exists() else HEAD
        if f"Run `{results.run_id}`" in text:
            print(f"{args.file}: nothing added, the run {results.run_id} is already there")
            return 0
        write_text(args.file, f"{text.rstrip()}\n\n---\n\n{entry}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{args.file}: cannot be read or written: {error}") from None
    print(f"{args.file}: added the run {results.run_id}")
    return 0
