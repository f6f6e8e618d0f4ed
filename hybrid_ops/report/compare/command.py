"""`hybrid-perf compare`: result files, runs of the history and what vLLM's load generator wrote, cell by cell."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.regression.history.command import DEFAULT_STORE
from hybrid_ops.report.compare.comparison import Comparison, compare
from hybrid_ops.report.compare.readers import read_side
from hybrid_ops.report.compare.shown import as_dict, as_markdown, as_text
from hybrid_ops.report.compare.sides import Key

FORMATS = ("text", "markdown", "json")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="results against results: ratios with intervals; 1 if something is worse",
        description="Compare each further source with the first one. Ends with 1 if a cell is surely worse, else 0.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a run's folder, a results.json, the JSON of vllm bench serve, or a run of the history by its name",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="default text")
    parser.add_argument("--all", action="store_true", help="every cell, not only headline metrics and what differs")
    parser.add_argument("--case", default="*", help="only these cases; * and ? are wildcards")
    parser.add_argument("--metric", default="*", help="only these metrics; * and ? are wildcards")
    parser.add_argument(
        "--tolerance", type=_tolerance, default=0.0, metavar="SHARE", help="a relative change that passes (default 0)"
    )
    parser.add_argument(
        "--across-definitions",
        action="store_true",
        help="compare cases too whose model, arguments or workload differ",
    )
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, metavar="FILE", help=f"default {DEFAULT_STORE}")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the comparisons; 1 if one has something worse. Raises InputError for what cannot be read or compared."""
    if len(args.sources) < 2:
        raise InputError("compare: give two sources or more; the first is what the others are compared with")
    first, *others = (read_side(source, args.store) for source in args.sources)

    def chosen(key: Key) -> bool:
        return fnmatchcase(key[0], args.case) and fnmatchcase(key[1], args.metric)

    found = [compare(first, other, args.tolerance, args.across_definitions, chosen) for other in others]
    for comparison in found:
        _refuse_empty(comparison)
    if args.format == "json":
        print(json.dumps([as_dict(comparison) for comparison in found], indent=1))
    else:
        shown = as_text if args.format == "text" else as_markdown
        print("\n\n".join(shown(comparison, args.all) for comparison in found))
    return 1 if any(comparison.is_worse for comparison in found) else 0


def _refuse_empty(comparison: Comparison) -> None:
    if comparison.rows:
        return
    why = "no cell is on both sides"
    if comparison.refused:
        why = f"{', '.join(comparison.refused)}: defined otherwise on the two sides; --across-definitions compares them"
    elif comparison.unmeasured:
        why = comparison.unmeasured[0]
    raise InputError(f"{comparison.after.name} against {comparison.before.name}: nothing to compare: {why}")


def _tolerance(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no relative change from 0 to 1, such as 0.02")
    return share
