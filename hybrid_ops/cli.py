"""The command `hybrid-perf`.

A subcommand is a module with `add_parser(subparsers)`, which ends in `parser.set_defaults(run=run)`, and `run(args)`,
which returns the exit code. To add one, write it in the folder that its work belongs to and list it in `COMMANDS`; what
is slow to import belongs inside its `run`. Where 2 means something else than bad input, it sets `bad_input`, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from hybrid_ops import __version__
from hybrid_ops.errors import InputError
from hybrid_ops.measure import isolation_command, overhead_command
from hybrid_ops.models import capacity_command, cost_command
from hybrid_ops.regression.history import command as history_command
from hybrid_ops.report import comment_command, log_command, notify_command, plot_command
from hybrid_ops.report.compare import command as compare_command
from hybrid_ops.report.interchange import export_command, import_command
from hybrid_ops.report.page import command as report_command
from hybrid_ops.report.published import command as published_command
from hybrid_ops.run import gpu_command, merge_command, night_command
from hybrid_ops.workloads import data_command

COMMANDS = (
    capacity_command,
    comment_command,
    compare_command,
    cost_command,
    data_command,
    export_command,
    gpu_command,
    history_command,
    import_command,
    isolation_command,
    log_command,
    merge_command,
    night_command,
    notify_command,
    overhead_command,
    plot_command,
    published_command,
    report_command,
)
BAD_INPUT = 2
"""The exit code for bad input, unless a subcommand has another."""


class Parser(argparse.ArgumentParser):
    """A parser that names what is wrong below its own usage, with its own exit code."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.get_default("bad_input") or BAD_INPUT, f"{self.prog}: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Nothing stays unknown: argparse would have the main parser complain of a subcommand's options."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = Parser(prog="hybrid-perf", description="Performance of hybrid language models.")
    parser.add_argument("--version", action="version", version=f"hybrid-perf {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Bad input is one line on standard error and exit code 2, or the subcommand's own."""
    args = build_parser().parse_args(arguments)
    try:
        return args.run(args)
    except InputError as error:
        print(f"hybrid-perf: error: {error}", file=sys.stderr)
        return getattr(args, "bad_input", BAD_INPUT)


if __name__ == "__main__":
    sys.exit(main())
