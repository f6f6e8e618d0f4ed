"""`hybrid-perf history add|show|changes|cost`: the history on the command line."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import parse_count
from hybrid_ops.regression.history.costs import cost_table, night_costs
from hybrid_ops.regression.history.store import History, Series
from hybrid_ops.regression.results import read_results

DEFAULT_STORE = Path("perf_results/history.sqlite")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "history",
        help="past results: add, show, changes, cost",
        description="Keep the results of runs in one file, show them, find what changed and what it cost.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add results.json files (a run already there is left alone)")
    add.add_argument("results", nargs="+", type=Path, metavar="RESULTS_JSON", help="the file or folder of a run")
    show = actions.add_parser("show", help="print the values of cells, oldest first")
    changes = actions.add_parser("changes", help="find steps and slow drifts; 1 if one for the worse is not accepted")
    changes.add_argument(
        "--least", type=_change, default=0.02, metavar="SHARE", help="the smallest relative step (default 0.02)"
    )
    changes.add_argument(
        "--least-drift",
        type=_change,
        default=0.03,
        metavar="SHARE",
        help="the smallest relative drift over ten weeks (default 0.03)",
    )
    cost = actions.add_parser("cost", help="print what each night cost, in total and by engine")
    for action, run in ((add, run_add), (show, run_show), (changes, run_changes), (cost, run_costs)):
        action.add_argument(
            "--store", type=Path, default=DEFAULT_STORE, metavar="FILE", help=f"default {DEFAULT_STORE}"
        )
        action.set_defaults(run=run)
    for action in (show, changes):
        action.add_argument("--case", help="only these cases; * and ? are wildcards")
        action.add_argument("--metric", help="only these metrics; * and ? are wildcards")
    for action, last, what in ((show, 20, "runs"), (changes, 200, "runs"), (cost, 7, "nights")):
        action.add_argument("--device", help="only this device class; * and ? are wildcards")
        action.add_argument(
            "--last", type=parse_count, default=last, metavar="N", help=f"look at the newest N {what} (default {last})"
        )


def run_add(args: argparse.Namespace) -> int:
    """Add runs; nothing is added where one of the files is bad. Raises InputError."""
    runs = [(path, read_results(path)) for path in args.results]
    with History(args.store, create=True) as history:
        for path, run in runs:
            count = history.add(run)
            if count:
                print(f"{path}: {count} cells added")
            else:
                print(f"{path}: nothing added, {'the run is already there' if run.started else 'it has no launch'}")
    return 0


def _selected(history: History, args: argparse.Namespace) -> list[Series]:
    found = history.series(case=args.case, metric=args.metric, device=args.device)
    if not found:
        raise InputError(f"{args.store}: no cell matches --case, --metric and --device")
    return found


def run_show(args: argparse.Namespace) -> int:
    """Print the values of the chosen cells. Raises InputError."""
    with History(args.store) as history:
        for series in _selected(history, args):
            print(f"{series.case} {series.metric} ({series.unit}) on {series.device}")
            for point in history.points(series, args.last):
                shown = point.text if point.value is None else f"{point.value:.6g}"
                print(f"  {point.started:%Y-%m-%d %H:%M}  {shown or '-':>12}  {point.verdict:<19}  {point.run}")
    return 0


def run_changes(args: argparse.Namespace) -> int:
    """Print the changes of the chosen cells; 1 if one for the worse is not accepted yet. Raises InputError."""
    # scipy.stats takes a second to import, which every other command would wait for.
    from hybrid_ops.regression.history.search import find_changes

    with History(args.store) as history:
        found = [
            change
            for series in _selected(history, args)
            for change in find_changes(history, series, args.last, args.least, args.least_drift)
        ]
        for change in found:
            print("\n".join(change.lines(history)))
    return 1 if any(change.is_open_regression for change in found) else 0


def run_costs(args: argparse.Namespace) -> int:
    """Print what the newest nights cost, by device class. Raises InputError."""
    with History(args.store) as history:
        by_device = night_costs(history, args.device or "*")
    if not by_device:
        raise InputError(f"{args.store}: no run matches --device")
    blocks = ["\n".join(cost_table(device, nights[-args.last :])) for device, nights in by_device.items()]
    print("\n\n".join(blocks))
    return 0


def _change(text: str) -> float:
    """A relative change from the command line. Raises argparse's error."""
    try:
        change = float(text)
    except ValueError:
        change = 0.0
    if not 0 < change < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no relative change above 0, such as 0.02")
    return change
