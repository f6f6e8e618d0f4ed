"""`hybrid-perf plot`: the files and plots of a comparison of full, sliding-window and hybrid attention."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.report.comparison import comparison_markdown, complete_comparisons, write_results
from hybrid_ops.report.plots import FORMATS, write_plots


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
    path = args.results / "results.json" if args.results.is_dir() else args.results
    document = _read(path)
    try:
        written = write_files(document, args.output_dir or path.parent, args.format)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    print("\n".join(map(str, written)))
    return 0


def write_files(document: Mapping[str, Any], folder: Path, file_format: str = "png") -> list[Path]:
    """Write a run's comparisons below `folder`, each base model in a folder of its own where there are several.

    Raises InputError for a run without a whole comparison and for a folder that cannot be written.
    """
    comparisons = complete_comparisons(document)
    written = []
    for results in comparisons:
        target = folder if len(comparisons) == 1 else folder / results.base
        try:
            written += write_results(results, target)
            written += write_plots(results, target / "plots", file_format)
            summary = target / "plots" / "summary.md"
            summary.write_text(f"# Hybrid attention suite\n\n{comparison_markdown(results)}", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error.strerror})") from None
        written.append(summary)
    return written


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict) or not {"run_id", "launches", "cells"} <= document.keys():
        raise InputError(f"{path}: not the results.json of a run")
    return document
