"""The command `hybrid-perf`.

A subcommand is a module with `add_parser(subparsers)`, which ends in `parser.set_defaults(run=run)`, and `run(args)`,
which returns the exit code. To add one, write it in the folder that its work belongs to and list it in `COMMANDS`. Only
the module of the subcommand that is asked for is imported, so that `hybrid-perf cost` does not wait for what
`hybrid-perf history` needs. Where 2 means something else than bad input, it sets `bad_input`, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from hybrid_ops import __version__
from hybrid_ops.errors import InputError

COMMANDS = {
    "capacity": "models.capacity_command",
    "comment": "report.comment_command",
    "compare": "report.compare.command",
    "cost": "models.cost_command",
    "data": "workloads.data_command",
    "export": "report.interchange.export_command",
    "gpu": "run.gpu_command",
    "history": "regression.history.command",
    "import": "report.interchange.import_command",
    "isolation": "measure.isolation_command",
    "log": "report.log_command",
    "merge": "run.merge_command",
    "night": "run.night_command",
    "notify": "report.notify_command",
    "overhead": "measure.overhead_command",
    "plot": "report.plot_command",
    "published": "report.published.command",
    "report": "report.page.command",
}
"""The module of each subcommand."""
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


def build_parser(asked: str | None = None) -> argparse.ArgumentParser:
    """The parser of one subcommand, or of all where none of that name is asked for."""
    parser = Parser(prog="hybrid-perf", description="Performance of hybrid language models.")
    parser.add_argument("--version", action="version", version=f"hybrid-perf {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in [asked] if asked in COMMANDS else COMMANDS:
        import_module(f"hybrid_ops.{COMMANDS[name]}").add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Bad input is one line on standard error and exit code 2, or the subcommand's own."""
    words = sys.argv[1:] if arguments is None else arguments
    args = build_parser(words[0] if words else None).parse_args(words)
    try:
        return args.run(args)
    except InputError as error:
        print(f"hybrid-perf: error: {error}", file=sys.stderr)
        return getattr(args, "bad_input", BAD_INPUT)


if __name__ == "__main__":
    sys.exit(main())
