"""`hybrid-perf night`: a whole night as one command with one exit status."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_ops.errors import CannotWrite, InputError
from hybrid_ops.report.cost import night_lines
from hybrid_ops.run.budget import seconds
from hybrid_ops.run.night import DEVICE_SUITES, SERVING_LOAD, Night, NightOptions
from hybrid_ops.run.status import MEANINGS, Findings, Status, tell_workflow


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "night",
        help="measure, keep the history, find changes; one exit status",
        description="Run the suite and a serving load, add both to the history and look for change points and drift. "
        "Exit status: " + ", ".join(f"{status.value} {meaning}" for status, meaning in MEANINGS.items()) + ".",
    )
    parser.add_argument("--device", choices=sorted(DEVICE_SUITES), default="cuda", help="default cuda")
    suites = ", ".join(f"{suite} on {device}" for device, suite in DEVICE_SUITES.items())
    parser.add_argument("--suite", metavar="NAME", help=f"default {suites}")
    parser.add_argument(
        "--serving",
        metavar="EXPRESSION",
        default=SERVING_LOAD,
        help=f"the cases of the second run, as pytest's -k has them (default {SERVING_LOAD})",
    )
    parser.add_argument(
        "--budget",
        metavar="TIME",
        help="time for the whole night, such as 3h: the second run has what is left (default: that of each suite)",
    )
    parser.add_argument("--no-serving", action="store_true", help="leave the second run out")
    parser.add_argument(
        "--results", type=Path, default=Path("perf_results"), metavar="DIR", help="default perf_results"
    )
    parser.add_argument("--store", type=Path, metavar="FILE", help="the history (default DIR/history.sqlite)")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="further arguments of pytest, after --")
    parser.set_defaults(run=run, bad_input=Status.BAD_INPUT.value)


def run(args: argparse.Namespace) -> int:
    """Run a night, and say in the last lines what it cost and what it found. Raises InputError for bad input."""
    if args.budget is not None and any(word.startswith("--perf-budget") for word in args.arguments):
        raise InputError("--budget: shares its time among the runs; leave --perf-budget out behind --")
    options = NightOptions(
        device=args.device,
        results=args.results,
        suite=args.suite,
        store=args.store,
        serving=None if args.no_serving else args.serving,
        arguments=args.arguments,
        budget_seconds=None if args.budget is None else seconds(args.budget, "--budget"),
    )
    try:
        findings = Night(options).run()
    except CannotWrite as error:
        findings = Findings(unmeasured=[str(error)])
    costs = night_lines(findings.costs)
    tell_workflow(findings, costs)
    print("\n".join([*costs, findings.last_line]))
    return findings.status.value
