"""`hybrid-perf import`: files of other programs as runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_ops.errors import CannotWrite, InputError, refuses_to_be_written
from hybrid_ops.regression.results import RESULTS_FILE
from hybrid_ops.report import write_reports
from hybrid_ops.report.interchange import READERS, Source

UNKNOWN_DEVICE = "unknown"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "import",
        help="files of other programs as runs",
        description="Make a run of each file: a folder with results.json, which `history add` and `export` take.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what a load generator wrote")
    formats = [reader.name for reader in READERS]
    parser.add_argument("--format", choices=formats, default=formats[0], help=f"of the files (default {formats[0]})")
    parser.add_argument("--case", metavar="MODEL/LOAD", help="what to call their case (default: after model and label)")
    parser.add_argument(
        "--device",
        metavar="CLASS",
        default=UNKNOWN_DEVICE,
        help=f"the device class that was measured, such as nvidia-h200 (default {UNKNOWN_DEVICE})",
    )
    parser.add_argument(
        "--results", type=Path, default=Path("perf_results"), metavar="DIR", help="where to write (perf_results)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the runs; none is made where one of the files is bad. Raises InputError."""
    [reader] = [reader for reader in READERS if reader.name == args.format]
    runs = [reader.read(Source(path, _text(path), args.case, args.device)) for path in args.files]
    for path, made in zip(args.files, runs):
        folder = args.results / made.run_id
        if folder.exists():
            raise InputError(f"{path}: it has been imported already: {folder}; remove that folder first")
    for path, made in zip(args.files, runs):
        folder = args.results / made.run_id
        try:
            folder.mkdir(parents=True)
            made.write(folder)
        except OSError as error:
            kind = CannotWrite if refuses_to_be_written(error) else InputError
            raise kind(f"{folder}: cannot be written ({error.strerror}); choose another with --results") from None
        write_reports(made, folder)
        cases = ", ".join(dict.fromkeys(cell.case for cell in made.cells))
        print(f"{folder / RESULTS_FILE}: {len(made.cells)} cells of {cases}, from {path}")
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8: {error}") from None
