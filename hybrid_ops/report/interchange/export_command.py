"""`hybrid-perf export`: a run in the format of another program."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from hybrid_ops.errors import CannotWrite, InputError, refuses_to_be_written
from hybrid_ops.regression.results import read_results
from hybrid_ops.report.interchange import WRITERS, Part


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "export",
        help="a run in the format of another program",
        description="Write a run for another program. A format that makes several files of it puts the name of each "
        "into that of its file.",
    )
    parser.add_argument("results", metavar="RUN", type=Path, help="a run's folder or its results.json")
    parser.add_argument("--format", choices=[writer.name for writer in WRITERS], required=True, help="of the file")
    several = "; ".join(f"{writer.name}: {writer.parts_are}" for writer in WRITERS)
    parser.add_argument("--only", metavar="NAME", help=f"one of several files ({several})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (default: standard output)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files and print their paths, or print the only one. Raises InputError."""
    [writer] = [writer for writer in WRITERS if writer.name == args.format]
    results = read_results(args.results)
    try:
        parts = _chosen(writer.write(results), args.only)
    except InputError as error:
        raise InputError(f"{args.results}: {error}") from None
    if args.output is None:
        if len(parts) > 1:
            names = ", ".join(part.name for part in parts)
            raise InputError(f"{args.results}: {len(parts)} files ({names}): choose one with --only, or give --output")
        print(parts[0].text, end="")
        return 0
    for path, part in zip(_paths(args.output, parts), parts):
        try:
            path.write_text(part.text, encoding="utf-8")
        except OSError as error:
            kind = CannotWrite if refuses_to_be_written(error) else InputError
            raise kind(f"{path}: cannot be written ({error.strerror}); choose another with --output") from None
        print(path)
    return 0


def _chosen(parts: Sequence[Part], only: str | None) -> Sequence[Part]:
    """The parts that are asked for. Raises InputError for a name that none has."""
    chosen = [part for part in parts if only in (None, part.name)]
    if not chosen:
        raise InputError(f"--only: it has {', '.join(part.name for part in parts)}, and no {only!r}")
    return chosen


def _paths(output: Path, parts: Sequence[Part]) -> list[Path]:
    """The file of each part: `bench.json` itself for one alone, else `bench-bigger.json` and `bench-smaller.json`."""
    if len(parts) == 1:
        return [output]
    paths = [output.with_stem(f"{output.stem}-{re.sub(r'[^A-Za-z0-9._+-]+', '-', part.name)}") for part in parts]
    if len(set(paths)) < len(paths):
        raise InputError(f"{output}: two of the files would have one name; write them one by one with --only")
    return paths
