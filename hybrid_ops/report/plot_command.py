"""`hybrid-perf plot`: the files and plots of a comparison of full, sliding-window and hybrid attention."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.regression.results import RESULTS_FILE, read_results
from hybrid_ops.report.comparison_tables import write_files
from hybrid_ops.report.plots import FORMATS


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "plot",
        help="files and plots of the hybrid-attention suite",
        description="Write full_results.json, sliding_results.json, hybrid_results.json and plots/ of a run.",
    )
    parser.add_argument("results", metavar="RESULTS", type=Path, help="a run's folder or its results.json")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="where to write (default: the run's folder)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the plots (default png)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files and print their paths. Raises InputError for results that have no whole comparison."""
    path = args.results / RESULTS_FILE if args.results.is_dir() else args.results
    run_results = read_results(path)
    try:
        written = write_files(run_results, args.output_dir or path.parent, args.format)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    print("\n".join(map(str, written)))
    return 0
