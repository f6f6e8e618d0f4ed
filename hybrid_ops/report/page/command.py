"""`hybrid-perf report`: the page of a run made again, or the page of a history alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import parse_count
from hybrid_ops.regression.history.store import History, Series
from hybrid_ops.regression.results import RESULTS_FILE, read_results
from hybrid_ops.report.page.report import PAGE_FILE, store_beside, write_page, write_trends
from hybrid_ops.report.page.trends import MOST_NIGHTS


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "report",
        help="the page of a run, or of a history",
        description="Write the offline page of a run again; without a run, that of a history's cells over time.",
    )
    parser.add_argument("results", metavar="RESULTS", nargs="?", type=Path, help="a run's folder or its results.json")
    parser.add_argument(
        "--store", type=Path, metavar="FILE", help="the history (default: history.sqlite beside the run's folder)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"default {PAGE_FILE} in the run's folder, or beside FILE"
    )
    for name, what in (("case", "cases"), ("metric", "metrics"), ("device", "device classes")):
        parser.add_argument(f"--{name}", help=f"without a run, only these {what}; * and ? are wildcards")
    parser.add_argument(
        "--last",
        type=parse_count,
        default=MOST_NIGHTS,
        metavar="N",
        help=f"without a run, the newest N runs of each cell (default {MOST_NIGHTS})",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path. Raises InputError."""
    if args.results is None and args.store is None:
        raise InputError("name a run's folder, or a history with --store FILE")
    try:
        print(_page_of_history(args) if args.results is None else _page_of_run(args))
    except OSError as error:
        raise InputError(f"{error.filename}: the page cannot be written ({error.strerror})") from None
    return 0


def _page_of_run(args: argparse.Namespace) -> Path:
    path = args.results / RESULTS_FILE if args.results.is_dir() else args.results
    results = read_results(path)
    store = args.store or store_beside(path.parent)
    if store is not None:
        with History(store):
            pass  # one that was asked for and cannot be read is an error, not a notice on the page
    return write_page(results, path.parent, args.output or path.parent / PAGE_FILE, store)


def _page_of_history(args: argparse.Namespace) -> Path:
    def chosen(history: History) -> list[Series]:
        found = history.series(case=args.case, metric=args.metric, device=args.device)
        if not found:
            raise InputError(f"{args.store}: no cell matches --case, --metric and --device")
        return found

    return write_trends(args.store, args.output or args.store.parent / PAGE_FILE, chosen, args.last)
