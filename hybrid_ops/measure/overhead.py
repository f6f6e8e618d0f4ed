"""What measuring through this suite costs: one load through it and by hand, side by side on one server.

Each round puts the same load on the server four times, in random order: twice as the suite does, with all that it runs
beside the load, and twice by `vllm bench serve` in a process of its own, which warms up first. Two equal runs of a
round differ by noise alone, so the difference between the two ways counts only where it is more than that.
"""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from scipy.stats import quantile_test

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.protocol import RUN, ServerFacts
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_server import VllmServer
from hybrid_ops.engines.worker import Worker, WorkerError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.conditions import ConditionMonitor, Limits
from hybrid_ops.measure.launch import load_engine
from hybrid_ops.measure.procedures.procedure import Iteration
from hybrid_ops.measure.procedures.serving import Serving
from hybrid_ops.models.zoo import ModelEntry
from hybrid_ops.workloads.serving import ServingWorkload

WARMUPS = 8
LEAST_ROUNDS = 6
"""The fewest from which a median has an interval of `CONFIDENCE` without assuming a distribution."""
CONFIDENCE = 0.95
NORMAL_DEVIATION = 1.4826
"""The standard deviation of a normal distribution over the median of its absolute values."""
COMPARED = ("output_throughput", "mean_ttft_ms", "median_ttft_ms", "mean_tpot_ms", "median_itl_ms", "mean_e2el_ms")


@dataclass(frozen=True)
class Overhead:
    """One metric, measured both ways."""

    metric: str
    suite: float
    """Median through the suite."""
    by_hand: float
    """Median by hand."""
    difference: float
    """Median over the rounds of log(suite / by hand), each from the mean logs of its two runs."""
    interval: tuple[float, float]
    """Of that median, with `CONFIDENCE`, by the sign test (Conover 1999, section 3.2)."""
    noise: float
    """Spread of log(first / second) of two equal runs of one round, what A/A shows: 1.4826 times the median of its
    absolute values, which for normal noise is its standard deviation."""

    @property
    def is_within_noise(self) -> bool:
        """Whether the whole interval is less than what two equal runs differ by."""
        return max(map(abs, self.interval)) <= self.noise

    @property
    def is_beyond_noise(self) -> bool:
        """Whether all of it is more. Neither: more rounds would tell."""
        return self.interval[0] > self.noise or self.interval[1] < -self.noise


def measure_overhead(
    model: str,
    entry: ModelEntry,
    load: ServingWorkload,
    device: Device,
    rounds: int,
    folder: Path,
    deadline_seconds: float = 300.0,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Overhead]:
    """Measure `load` both ways in `LEAST_ROUNDS` rounds or more, after one of each to warm up.

    Raises WorkerError and NotAMeasurement.
    """
    spec = EngineSpec(model, entry, device.platform, VllmServer(), arguments=load.arguments)
    case = Case(spec, "overhead", load, Serving())
    order = random.Random(load.seed)  # noqa: S311
    seen: list[dict[str, list[dict[str, Any]]]] = []
    with Worker(spec.engine.worker, folder, environment=device.environment) as worker:
        tell("starting the server")
        facts = load_engine(worker, spec, folder)

        assert facts.server is not None
        by_hand = partial(
            bench_by_hand, worker, load, facts.server, spec.engine.prepare(spec, folder), deadline_seconds
        )

        def through_suite() -> dict[str, Any]:
            with ConditionMonitor(device, [worker.process.pid], Limits()):
                return dict(case.procedure.iterate(Iteration(case, worker, facts, folder, deadline_seconds)))

        ways: dict[str, Callable[[], dict[str, Any]]] = {"suite": through_suite, "hand": by_hand}
        for way in ways.values():
            way()
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            results: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
            for name in order.sample(["suite", "suite", "hand", "hand"], 4):
                results[name].append(ways[name]())
            seen.append(results)
    return [compare_ways(metric, seen) for metric in COMPARED]


def bench_by_hand(
    worker: Worker, load: ServingWorkload, server: ServerFacts, tokenizer: str, deadline_seconds: float
) -> dict[str, Any]:
    """One `vllm bench serve` as a person would type it beside the server. Raises WorkerError if it fails.

    The suite's client has warmed up by its first iteration; a new process does so by `--num-warmups`.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", *load.bench_arguments(None)]
        command += ["--base-url", server.url, "--model", server.model, "--tokenizer", tokenizer]
        command += ["--num-warmups", str(WARMUPS), "--disable-tqdm"]
        command += ["--save-result", "--result-dir", folder, "--result-filename", "result.json"]
        done = worker.ask(RUN, deadline_seconds, command=command)
        result = Path(folder) / "result.json"
        if done.status != 0 or not result.exists():
            raise WorkerError(f"vllm bench serve failed: {done.output.strip().rpartition(chr(10))[2]}", worker.log)
        return json.loads(result.read_text(encoding="utf-8"))


def compare_ways(metric: str, rounds: Sequence[dict[str, list[dict[str, Any]]]]) -> Overhead:
    """Compare the two runs of each round through the `suite` with the two by `hand`, in `LEAST_ROUNDS` or more."""
    suite = [[float(result[metric]) for result in results["suite"]] for results in rounds]
    hand = [[float(result[metric]) for result in results["hand"]] for results in rounds]
    equal_runs = [math.log(first / second) for first, second in (*suite, *hand)]
    between = [
        fmean(map(math.log, ours)) - fmean(map(math.log, theirs)) for ours, theirs in zip(suite, hand, strict=True)
    ]
    interval = quantile_test(between, p=0.5).confidence_interval(CONFIDENCE)
    return Overhead(
        metric,
        median(value for pair in suite for value in pair),
        median(value for pair in hand for value in pair),
        median(between),
        (float(interval.low), float(interval.high)),
        NORMAL_DEVIATION * median(map(abs, equal_runs)),
    )
