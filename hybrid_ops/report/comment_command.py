"""`hybrid-perf comment`: keep one comment on a pull request up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import parse_count
from hybrid_ops.regression.history.nights import nights_until
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import read_results
from hybrid_ops.report.messages.comment import NAME, MeasuredRun, Remembered, comment_body, marker, remembered
from hybrid_ops.report.messages.night import known_after
from hybrid_ops.report.messages.states import States, seen_in_results, states_after
from hybrid_ops.report.receivers.forge import Forge, find
from hybrid_ops.report.receivers.http import NotTold
from hybrid_ops.report.receivers.options import add_receiver_options, forge_from, link_from, pull_request_from

NOTHING_TO_SAY = "hybrid-perf comment: nothing to say"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "comment",
        help="keep one comment on a pull request up to date",
        description="Tell a pull request on GitHub or GitLab what its runs show, in one comment that is changed in "
        "place. Nothing is sent where nothing changed. Exit status: 0 told or nothing to tell, 1 could not be told, "
        "2 bad input.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder or its results.json")
    before = parser.add_mutually_exclusive_group()
    before.add_argument("--base", nargs="+", type=Path, default=[], metavar="RUN", help="runs of the target branch")
    before.add_argument("--store", type=Path, metavar="FILE", help="a history; its newest night is the target branch's")
    parser.add_argument("--pull-request", type=parse_count, metavar="N", help="on GitHub (in a job there: its own)")
    parser.add_argument("--merge-request", type=parse_count, metavar="N", help="on GitLab (in a job there: its own)")
    parser.add_argument("--name", default="default", metavar="NAME", help="keeps several comments apart")
    add_receiver_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the comment, or bring it up to date. Raises InputError."""
    if not NAME.fullmatch(args.name):
        raise InputError(f"--name: letters, digits, '.', '_' and '-', not {args.name!r}")
    runs = _measured(args.runs)
    base = _base(args, runs[0].results.device.device_class)
    link = link_from(args)
    if args.dry_run:
        body = comment_body(runs, base, Remembered(), args.name, link)
        if body is None:
            print(NOTHING_TO_SAY, file=sys.stderr)
        else:
            print(body.partition("\n")[2], end="")
        return 0
    kind, forge = forge_from(args)
    number = pull_request_from(args, kind)
    try:
        _tell(forge, number, args.name, runs, base, link)
    except NotTold as error:
        print(f"hybrid-perf comment: not told: {error}", file=sys.stderr)
        return 1
    return 0


def _tell(forge: Forge, number: int, name: str, runs: Sequence[MeasuredRun], base: States, link: str | None) -> None:
    """Write the comment or change it, where it has something to say. Raises NotTold and InputError."""
    known = find(forge.comments(number), marker(name))
    told = Remembered() if known is None else remembered(known.body, name)
    body = comment_body(runs, base, told, name, link)
    if body is None:
        print(NOTHING_TO_SAY, file=sys.stderr)
    elif known is None:
        forge.add_comment(number, body)
    else:
        forge.change_comment(number, known.identifier, body)


def _measured(paths: Sequence[Path]) -> list[MeasuredRun]:
    """The runs in order of time. Raises InputError where they are of several device classes."""
    runs = [MeasuredRun(read_results(path), path if path.is_dir() else path.parent) for path in paths]
    classes = {run.results.device.device_class for run in runs}
    if len(classes) > 1:
        raise InputError(
            f"runs of several device classes ({', '.join(sorted(classes))}): give each a comment of its own with --name"
        )
    return sorted(runs, key=lambda run: (run.results.started, run.results.run_id))


def _base(args: argparse.Namespace, device: str) -> States:
    """What is known of the target branch on a device class. Raises InputError."""
    if args.store is not None:
        with History(args.store) as history:
            return known_after(nights_until(history, device=device))[-1].states
    states: States = {}
    for base in _measured(args.base):
        states = states_after(states, seen_in_results(base.results))
    return states
