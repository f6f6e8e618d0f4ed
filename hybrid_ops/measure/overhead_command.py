"""`hybrid-perf overhead`: what measuring a load through the suite costs against `vllm bench serve` by hand."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_ops.engines.devices import cpu, gpus, placed
from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import format_table, parse_count
from hybrid_ops.models.zoo import load_zoo

if TYPE_CHECKING:
    from hybrid_ops.measure.overhead import Overhead


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "overhead",
        help="the same load through the suite and by hand, side by side",
        description="Put the same load on one server through the suite and by `vllm bench serve`, and compare.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model of the zoo")
    parser.add_argument("--load", default="serving-random", metavar="NAME", help="a load (default serving-random)")
    parser.add_argument("--rounds", type=parse_count, default=12, metavar="N", help="rounds of four runs (default 12)")
    parser.add_argument(
        "--num-prompts",
        type=parse_count,
        default=128,
        metavar="N",
        help="requests of a run (default 128): of a short run, what a new process does first is a large part",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the comparison. Exit code 0 if every metric surely differs by less than its noise, else 1.

    Raises InputError.
    """
    from hybrid_ops.engines.worker import WorkerError
    from hybrid_ops.measure.overhead import LEAST_ROUNDS, measure_overhead
    from hybrid_ops.measure.procedures import read_suites
    from hybrid_ops.measure.values import NotAMeasurement
    from hybrid_ops.workloads.serving import ServingWorkload

    zoo, loads = load_zoo(), read_suites().of_kind(ServingWorkload)
    if args.model not in zoo:
        raise InputError(f"no model is named {args.model!r}; the zoo has {', '.join(zoo)}")
    if args.load not in loads or loads[args.load].dataset_file is not None:
        drawn = ", ".join(name for name, load in loads.items() if load.dataset_file is None)
        raise InputError(f"no random load is named {args.load!r}; there are {drawn}")
    if args.rounds < LEAST_ROUNDS:
        raise InputError(f"--rounds: at least {LEAST_ROUNDS}, to know the error of a difference; not {args.rounds}")
    try:
        with placed((*gpus(), cpu())[0], tell=_tell) as device, tempfile.TemporaryDirectory() as folder:
            found = measure_overhead(
                args.model,
                zoo[args.model],
                loads[args.load].model_copy(update={"num_prompts": args.num_prompts}),
                device,
                args.rounds,
                Path(folder),
                tell=_tell,
            )
    except (WorkerError, NotAMeasurement) as error:
        raise InputError(f"{args.model}/{args.load} failed to run: {error}") from None
    print(
        f"{args.model}/{args.load}, {args.num_prompts} requests a run, {args.rounds} rounds of two runs each way, "
        f"on {device.name}"
    )
    print(_table(found))
    return 0 if all(one.is_within_noise for one in found) else 1


def _table(found: Sequence[Overhead]) -> str:
    """A row a metric."""
    rows = [["metric", "through the suite", "by hand", "difference", "95 % interval", "A/A noise", ""]]
    for one in found:
        verdict = "open: more --rounds"
        if one.is_within_noise:
            verdict = "within the noise"
        elif one.is_beyond_noise:
            verdict = "BEYOND THE NOISE"
        low, high = one.interval
        rows.append(
            [
                one.metric,
                f"{one.suite:.4g}",
                f"{one.by_hand:.4g}",
                f"{one.difference:+.1%}",
                f"{low:+.1%} to {high:+.1%}",
                f"±{one.noise:.1%}",
                verdict,
            ]
        )
    return format_table(rows)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
