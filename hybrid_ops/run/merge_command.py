"""`hybrid-perf merge`: one run out of its shards, with one exit status."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybrid_ops.errors import CannotWrite, InputError
from hybrid_ops.measure.store import new_run_id
from hybrid_ops.regression.results import RESULTS_FILE, RunResults
from hybrid_ops.report import Told, write_reports
from hybrid_ops.report.cost import night_lines
from hybrid_ops.report.page.report import page_line
from hybrid_ops.report.render import terminal_lines
from hybrid_ops.report.summary import SUMMARY_FILE
from hybrid_ops.report.table import counts
from hybrid_ops.run.merge import Place, merge
from hybrid_ops.run.shard_runs import ShardRun, read_shards
from hybrid_ops.run.status import MEANINGS, Findings, Status, check_history, tell_workflow


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "merge",
        help="one run out of the shards that several machines made; one exit status",
        description="Join the shards of a run (pytest --perf-shard), judge all cells together and write the folder of "
        "the whole run. Run it in the checkout that was measured. "
        "Exit status: " + ", ".join(f"{status.value} {meaning}" for status, meaning in MEANINGS.items()) + ".",
    )
    parser.add_argument("shards", nargs="+", type=Path, metavar="FOLDER", help="the run's folder of each shard")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="the folder of the whole run, whose name is the run's (default: a new one in perf_results)",
    )
    parser.add_argument(
        "--baselines", type=Path, default=Path("perf_baselines"), metavar="DIR", help="default perf_baselines"
    )
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help="a history: the whole run is judged with what it tells of the noise, added to it, and compared with it",
    )
    parser.add_argument(
        "--update-baselines", action="store_true", help="write the baselines of shards that were made with it"
    )
    parser.add_argument("--add-to-baselines", action="store_true", help="the same of shards that were made with this")
    parser.add_argument(
        "-p",
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that registers engines, procedures or reports of yours; may be repeated",
    )
    parser.set_defaults(run=run, bad_input=Status.BAD_INPUT.value)


def run(args: argparse.Namespace) -> int:
    """Merge, tell what the whole run says, and keep it. Raises InputError for bad input."""
    findings = Findings(of="merge")
    try:
        for module in args.plugin:
            _load(module)
        shards = read_shards(args.shards)
        _check_update(args, shards)
        if args.store is not None:
            check_history(args.store)
        folder = args.output or Path("perf_results", new_run_id())
        results = merge(shards, Place(folder, args.baselines.absolute(), args.store))
        told = write_reports(results, folder)
    except CannotWrite as error:
        findings.unmeasured.append(str(error))
    else:
        print("\n".join(_lines(results, told)))
        _conclude(findings, results, folder, args.store, shards[0].told.suite.suite)
    costs = night_lines(findings.costs)
    tell_workflow(findings, costs)
    print("\n".join([*costs, findings.last_line]))
    return findings.status.value


def _load(module: str) -> None:
    """Import a plugin, as pytest does with the project's folder in the path. Raises InputError."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"--plugin {module}: cannot be imported ({error})") from None


def _check_update(args: argparse.Namespace, shards: Sequence[ShardRun]) -> None:
    """Raise InputError where the shards were made for something else than what is asked for."""
    made = shards[0].told.run
    wanted = {
        "--add-to-baselines": (args.add_to_baselines, made.update and made.update_adds),
        "--update-baselines": (args.update_baselines, made.update and not made.update_adds),
    }
    for option, (is_asked, was_asked) in wanted.items():
        if was_asked and not is_asked:
            raise InputError(f"the shards were made with {option}: add it, and it changes {args.baselines}")
    for option, (is_asked, was_asked) in wanted.items():
        if is_asked and not was_asked:
            raise InputError(f"{option}: the shards were made without it, so they lack the launches of an update")


def _lines(results: RunResults, told: Sequence[Told]) -> Iterator[str]:
    """What every report says of the run, as pytest's terminal shows it."""
    for one in told:
        if one.section is not None:
            yield f"--- {one.section.title} ---"
            yield from (line for line, _ in terminal_lines(one.section, is_verbose=False))
        if one.problem is not None:
            yield one.problem
    yield f"{counts(results.cells)} in {results.seconds:.0f} s of all shards together"


def _conclude(findings: Findings, results: RunResults, folder: Path, store: Path | None, suite: str) -> None:
    """Take up what was found, and add the run to the history where one is named."""
    findings.judge(results)
    if not results.started:
        findings.unmeasured.append("nothing was measured")
    elif store is not None:
        findings.keep(results, store, suite)
        print(page_line(results, folder, store))
    print(f"results: {folder / RESULTS_FILE}")
    if results.cost is not None:
        findings.costs.append(results.cost)
    if (folder / SUMMARY_FILE).is_file():
        findings.summaries.append(folder / SUMMARY_FILE)
