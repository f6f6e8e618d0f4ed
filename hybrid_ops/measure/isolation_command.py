"""`hybrid-perf isolation`: whether launches that run side by side on this machine disturb each other's times."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_ops.engines.devices import Device, cpu, devices, gpus, placed_beside
from hybrid_ops.engines.registry import find_engine
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import format_table, parse_count
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.batch import ClosedBatch

if TYPE_CHECKING:
    from hybrid_ops.measure.case import Case
    from hybrid_ops.measure.neighbours import Disturbance


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "isolation",
        help="whether engines that run side by side disturb each other",
        description="Measure an engine alone and with engines beside it on all other devices, in turns, and keep the "
        "verdict where `pytest --perf -n N` reads it. Exit status 0: undisturbed, 1: disturbed or open.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model of the zoo")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="FILE", help="a further zoo file")
    parser.add_argument("--workload", default="medium", metavar="NAME", help="a generation workload (default medium)")
    parser.add_argument(
        "--cores", type=parse_count, default=1, metavar="N", help="on a CPU, of each engine (default 1)"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where engines run (auto)")
    parser.add_argument("--rounds", type=parse_count, default=12, metavar="N", help="rounds of two turns (default 12)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="the largest change that is no disturbance (default 0.05)",
    )
    parser.add_argument(
        "--baselines", type=Path, default=Path("perf_baselines"), metavar="DIR", help="default perf_baselines"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the comparison and keep its verdict. Raises InputError."""
    from hybrid_ops.engines.worker import WorkerError
    from hybrid_ops.measure.isolation import ISOLATION_FILE, write_isolation
    from hybrid_ops.measure.neighbours import LEAST_ROUNDS, Finding, measure_disturbance
    from hybrid_ops.measure.values import NotAMeasurement

    if args.rounds < LEAST_ROUNDS:
        raise InputError(f"--rounds: at least {LEAST_ROUNDS}, to know the error of a median; not {args.rounds}")
    if args.tolerance <= 0:
        raise InputError(f"--tolerance: a share above 0, such as 0.05; not {args.tolerance:g}")
    case, device = _case(args), _device(args.device)
    try:
        with placed_beside(device, case.spec.device_count, _tell) as placed, tempfile.TemporaryDirectory() as folder:
            rounds, tolerance = args.rounds, args.tolerance
            found = measure_disturbance(case, placed, rounds, tolerance, Path(folder), tell=_tell)
    except (WorkerError, NotAMeasurement) as error:
        raise InputError(f"{case.id} failed to run: {error}") from None
    undisturbed = all(one.finding is Finding.UNDISTURBED for one in found)
    own, beside = placed[0], len(placed) - 1
    path = args.baselines / own.device_class / ISOLATION_FILE
    details = {
        "date": datetime.now(UTC).date().isoformat(),
        "case": case.id,
        "neighbours": beside,
        "rounds": args.rounds,
        "tolerance": args.tolerance,
        "metrics": [asdict(one) for one in found],
    }
    write_isolation(path, undisturbed, details)
    print(f"{case.id}, alone and beside {beside} working neighbour{'s' if beside > 1 else ''}, on {own.device_class}")
    print(_table(found))
    print(_sentence(found, args.tolerance), f"Kept in {path}.")
    return 0 if undisturbed else 1


def _case(args: argparse.Namespace) -> Case:
    from hybrid_ops.measure.case import Case
    from hybrid_ops.measure.procedures import read_suites
    from hybrid_ops.measure.procedures.generation import Generation

    zoo, workloads = load_zoo(*args.models), read_suites().of_kind(ClosedBatch)
    if args.model not in zoo:
        raise InputError(f"no model is named {args.model!r}; the zoo has {', '.join(zoo)}")
    if args.workload not in workloads:
        raise InputError(f"no generation workload is named {args.workload!r}; there are {', '.join(workloads)}")
    entry = zoo[args.model]
    engine = find_engine(entry.engine, f"{entry.source}: models.{args.model}.engine")
    procedure = Generation()
    if not engine.answers(procedure.operations):
        raise InputError(f"the engine {engine.name} of {args.model} generates nothing; choose another model")
    spec = EngineSpec(args.model, entry, _device(args.device).platform, engine, cores=args.cores)
    return Case(spec, args.workload, workloads[args.workload], procedure)


def _device(chosen: str) -> Device:
    """The first device of a platform. Raises InputError without one."""
    if chosen == "auto":
        return (*gpus(), cpu())[0]
    found = devices(chosen)
    if not found:
        raise InputError(f"--device {chosen}: this machine has none")
    return found[0]


def _table(found: Sequence[Disturbance]) -> str:
    rows = [["metric", "beside / alone", "95 % interval", ""]]
    for one in found:
        low, high = one.interval
        rows.append([one.metric, f"{one.ratio - 1:+.1%}", f"{low - 1:+.1%} to {high - 1:+.1%}", str(one.finding)])
    return format_table(rows)


def _sentence(found: Sequence[Disturbance], tolerance: float) -> str:
    from hybrid_ops.measure.neighbours import Finding

    findings = [one.finding for one in found]
    if Finding.DISTURBED in findings:
        return "Neighbours disturb each other here: timed cells are measured alone."
    if Finding.OPEN in findings:
        return f"Not known to within {tolerance:.0%}: timed cells are measured alone. More --rounds may tell."
    return f"Neighbours do not disturb each other by more than {tolerance:.0%}: timed cells are measured side by side."


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
