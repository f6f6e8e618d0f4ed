"""The command `hybrid-perf`.

A subcommand is a module with `add_parser(subparsers)`, which ends in `parser.set_defaults(run=run)`, and `run(args)`,
which returns the exit code. To add one, write it in the folder that its work belongs to and list it in `COMMANDS`; what
is slow to import belongs inside its `run`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hybrid_ops import __version__
from hybrid_ops.errors import InputError
from hybrid_ops.measure import overhead_command
from hybrid_ops.models import capacity_command, cost_command
from hybrid_ops.regression.history import command as history_command
from hybrid_ops.report import plot_command
from hybrid_ops.workloads import data_command

COMMANDS = (capacity_command, cost_command, history_command, data_command, overhead_command, plot_command)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="hybrid-perf", description="Performance of hybrid language models.")
    parser.add_argument("--version", action="version", version=f"hybrid-perf {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Bad input is one line on standard error and exit code 2."""
    args = build_parser().parse_args(arguments)
    try:
        return args.run(args)
    except InputError as error:
        print(f"hybrid-perf: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
