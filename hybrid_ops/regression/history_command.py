"""`hybrid-perf history add|show|changes`: the history on the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hybrid_ops.measure.metrics import Direction
from hybrid_ops.regression.changes import Change, drift, steps
from hybrid_ops.regression.history import History, HistoryError, Point, Series, read_results
from hybrid_ops.regression.verdicts import Verdict

DEFAULT_STORE = Path("perf_results/history.sqlite")
NOT_MEASURED = {Verdict.FAILED_TO_RUN, Verdict.INVALID_ENVIRONMENT}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command `history` to a parser's subparsers; call `run` with what it parses."""
    parser: argparse.ArgumentParser = subparsers.add_parser("history", help="past results: add, show, changes")
    actions = parser.add_subparsers(dest="action", required=True)

    add = actions.add_parser("add", help="add results.json files (a run already there is left alone)")
    add.add_argument("results", nargs="+", type=Path, metavar="RESULTS_JSON")
    show = actions.add_parser("show", help="print the values of cells, oldest first")
    changes = actions.add_parser("changes", help="find steps and slow drifts; exit with 1 if one is for the worse")
    changes.add_argument("--least", type=float, default=0.02, help="the smallest relative step (default: %(default)s)")
    changes.add_argument(
        "--least-drift",
        type=float,
        default=0.03,
        help="the smallest drift over ten weeks (default: %(default)s)",
    )
    for action in (add, show, changes):
        action.add_argument("--store", type=Path, default=DEFAULT_STORE, help="default: %(default)s")
    for action, last in ((show, 20), (changes, 200)):
        action.add_argument("--case", help="only these cases; * and ? are wildcards")
        action.add_argument("--metric", help="only these metrics; * and ? are wildcards")
        action.add_argument("--device", help="only this device class; * and ? are wildcards")
        action.add_argument("--last", type=int, default=last, help="the newest runs looked at (default: %(default)s)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the parsed command. Returns the exit status: 0, 1 for a change for the worse, 2 for an error (one line)."""
    try:
        return {"add": _add, "show": _show, "changes": _changes}[arguments.action](arguments)
    except HistoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _add(arguments: argparse.Namespace) -> int:
    contents = [(path, read_results(path)) for path in arguments.results]
    with History(arguments.store, create=True) as history:
        for path, results in contents:
            count = history.add(results)
            print(f"{path}: {count} cells added" if count else f"{path}: nothing added, the run is already there")
    return 0


def _selected(history: History, arguments: argparse.Namespace) -> list[Series]:
    found = history.series(case=arguments.case, metric=arguments.metric, device=arguments.device)
    if not found:
        raise HistoryError(f"no cell in {arguments.store} matches")
    return found


def _show(arguments: argparse.Namespace) -> int:
    with History(arguments.store) as history:
        for series in _selected(history, arguments):
            print(f"{series.case} {series.metric} ({series.unit}) on {series.device}")
            for point in history.points(series, arguments.last):
                shown = point.text if point.value is None else f"{point.value:.6g}"
                print(f"  {point.started:%Y-%m-%d %H:%M}  {shown or '-':>12}  {point.verdict:<14}  {point.run}")
    return 0


def _changes(arguments: argparse.Namespace) -> int:
    worse = False
    with History(arguments.store) as history:
        for series in _selected(history, arguments):
            points = [point for point in history.points(series, arguments.last) if _measured(point)]
            times, values = [point.started for point in points], [point.value or 0.0 for point in points]
            try:
                found = steps(times, values, arguments.least)
            except ModuleNotFoundError as error:
                raise HistoryError(f"change points need apache-otava (the extra `history`): {error}") from error
            slow = drift(times, values, least=arguments.least_drift)
            for change in [*found, slow] if slow else found:
                bad = is_worse(change, series)
                worse = worse or bad
                print(
                    f"{series.case} {series.metric} on {series.device}: {change.kind} of {change.change:+.1%} "
                    f"({'worse' if bad else 'better'}), {change.before:.6g} to {change.after:.6g} {series.unit}, "
                    f"since {change.start:%Y-%m-%d}"
                )
    return 1 if worse else 0


def _measured(point: Point) -> bool:
    """Whether a point is a measurement that a series may contain."""
    return point.value is not None and point.value > 0 and point.verdict not in NOT_MEASURED


def is_worse(change: Change, series: Series) -> bool:
    """Whether a change is for the worse; any change of a metric without a direction is."""
    if series.direction == Direction.NONE:
        return True
    return (change.change > 0) == (series.direction == Direction.LOWER)
