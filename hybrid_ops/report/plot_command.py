"""`hybrid-perf plot`: the plots of a run, and the files of a comparison of attentions."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.regression.results import RESULTS_FILE, read_results
from hybrid_ops.report.comparison import comparison_results
from hybrid_ops.report.comparison_tables import write_files
from hybrid_ops.report.drawing import FORMATS
from hybrid_ops.report.run_plots import PLOTS_FOLDER, write_run_plots


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "plot",
        help="the plots of a run",
        description="Write plots/ of a run. Of the hybrid-attention suite also full_results.json, "
        "sliding_results.json and hybrid_results.json.",
    )
    parser.add_argument("results", metavar="RESULTS", type=Path, help="a run's folder or its results.json")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="where to write (default: the run's folder)")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the plots (default png)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files and print their paths. Raises InputError for results that have nothing to draw."""
    path = args.results / RESULTS_FILE if args.results.is_dir() else args.results
    run_results = read_results(path)
    folder = args.output_dir or path.parent
    try:
        written = write_files(run_results, folder, args.format) if comparison_results(run_results) else []
        written += write_run_plots(run_results, folder / PLOTS_FOLDER, args.format)
        if not written:
            raise InputError("it has nothing to draw: by model it takes two models, and over lengths two lengths")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    print("\n".join(map(str, written)))
    return 0
