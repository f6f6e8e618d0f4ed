"""One launch: a fresh engine process, its cases in shuffled order, and the record of what was seen."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.spec import Case, EngineSpec
from hybrid_ops.engines.standby import Standby
from hybrid_ops.engines.worker import Worker, WorkerError
from hybrid_ops.errors import InputError
from hybrid_ops.measure.conditions import ConditionMonitor, Limits
from hybrid_ops.measure.generation import NotAMeasurement, Value, summarize_iteration, summarize_launch
from hybrid_ops.measure.metrics import GIB, exact_metrics
from hybrid_ops.measure.probes import probe_cache, probe_prefixes
from hybrid_ops.measure.serving import summarize_load
from hybrid_ops.measure.utilisation import utilisation_values
from hybrid_ops.workloads.datafiles import UsableData, usable_data
from hybrid_ops.workloads.probe import CacheProbe, PrefixProbe
from hybrid_ops.workloads.serving import ServingWorkload
from hybrid_ops.workloads.workload import Workload

MOST_ITERATIONS = 40
"""Of a generation case in one launch, unless its workload asks for more."""
LOAD_GRACE_SECONDS = 15.0
"""How much longer than its deadline a load may take to answer: a worker that gives up by itself can say why."""


@dataclass
class CaseRecord:
    """What one launch saw of one case: its values, or why there are none."""

    values: dict[str, Value] = field(default_factory=dict)
    iterations: list[dict[str, Value]] = field(default_factory=list)
    warmup: list[dict[str, Value]] = field(default_factory=list)
    error: str | None = None
    absent: dict[str, str] = field(default_factory=dict)
    """Metrics that have no value though the case was measured, and why."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the values should know, such as what was dropped from a data file."""


@dataclass
class LaunchRecord:
    """What one launch was and saw. `error` is set when the engine did not load; then no case has values."""

    engine: str
    index: int
    started: str
    seconds: float
    log: str
    device: dict[str, Any]
    arguments: dict[str, Any]
    environment: dict[str, str | None]
    facts: dict[str, Any] = field(default_factory=dict)
    cases: dict[str, CaseRecord] = field(default_factory=dict)
    error: str | None = None
    conditions: dict[str, Any] = field(default_factory=dict)
    """What the machine showed while the cases ran."""
    violations: list[str] = field(default_factory=list)
    """The limits that it violated: then the launch's times and rates do not count."""

    @property
    def failed(self) -> bool:
        """Whether no case was measured."""
        return self.error is not None or all(case.error for case in self.cases.values())

    @property
    def unfit(self) -> bool:
        """Whether the machine was not fit to measure."""
        return bool(self.violations)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the engine and of what it runs on, as its worker gave them."""
        return self.facts.get("versions", {})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> LaunchRecord:
        cases = {name: CaseRecord(**case) for name, case in document.pop("cases").items()}
        return cls(**document, cases=cases)


def run_launch(
    spec: EngineSpec,
    cases: list[Case],
    index: int,
    device: Device,
    folder: Path,
    deadline_seconds: float,
    environment: dict[str, str | None] | None = None,
    tell: Callable[[str], None] = lambda text: None,
    interpreter: str = sys.executable,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    peaks: dict[str, Any] | None = None,
    least_seconds: float = 0.0,
    standby: Standby | None = None,
) -> LaunchRecord:
    """Launch `spec` once on `device` and measure `cases` in an order shuffled by the launch's index.

    `peaks` are the device's (`asdict` of DevicePeaks), which utilisation is measured against; none without them.
    Generation is repeated beyond a workload's timed iterations until they lasted `least_seconds`, because a machine's
    speed moves over seconds, but not beyond `MOST_ITERATIONS`. `deadline_seconds` bounds the load and each iteration.
    `standby` gives the worker, where launches follow each other. A failure is written into the record, never raised.
    """
    environment = {**device.environment, **spec.environment, **(environment or {})}
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    record = LaunchRecord(
        engine=spec.launch_name,
        index=index,
        started=started,
        seconds=0.0,
        log=str(folder / "engine.log"),
        device=asdict(device),
        arguments=spec.engine_arguments,
        environment=environment,
    )
    order = list(cases)
    random.Random(f"{spec.name}:{index}").shuffle(order)  # noqa: S311
    start = Worker if standby is None else standby.worker
    try:
        with start(spec.worker_module, folder, interpreter, environment) as worker:
            tell("loading")
            record.facts = {**load_engine(worker, spec, folder, deadline_seconds), "peaks": peaks}
            if standby is not None:
                standby.settle(deadline_seconds)
            with ConditionMonitor(device, [worker.process.pid], limits) as monitor:
                for number, case in enumerate(order, start=1):
                    tell(f"{case.workload_name} ({number} of {len(order)})")
                    record.cases[case.id] = _run_case(worker, case, record.facts, deadline_seconds, least_seconds)
                    for note in record.cases[case.id].notes:
                        tell(note)
            conditions = monitor.conditions
            record.conditions, record.violations = conditions.seen, conditions.violations
    except WorkerError as error:
        # Cases measured before the engine died keep their values; the one that was running and the rest have none.
        if record.cases:
            for case in order:
                record.cases.setdefault(case.id, CaseRecord(error=str(error)))
        else:
            record.error = str(error)
    record.seconds = time.monotonic() - clock
    return record


def load_engine(worker: Worker, spec: EngineSpec, folder: Path, deadline_seconds: float) -> dict[str, Any]:
    """Load the spec's model and return the worker's facts. Raises WorkerError, also for the wrong platform."""
    try:
        arguments = spec.load_arguments(folder, deadline_seconds)
    except InputError as error:
        raise WorkerError(str(error), worker.log) from None
    patience = deadline_seconds + (LOAD_GRACE_SECONDS if "health_seconds" in arguments else 0)
    facts = worker.request("load", patience, **arguments)
    if (found := facts["device"]["platform"]) != spec.platform:
        raise WorkerError(
            f"the engine runs on {found}, not on {spec.platform}: install the {spec.platform} build of "
            f"{spec.entry.engine}, or choose --perf-device {found}",
            worker.log,
        )
    return facts


def iterate(
    worker: Worker, case: Case, facts: dict[str, Any], deadline_seconds: float, warmup: bool = False
) -> dict[str, Value]:
    """One iteration of a case, of the warm-up or not: its metrics. Raises WorkerError and NotAMeasurement."""
    if isinstance(case.workload, ServingWorkload):
        return _put_load(worker, case, case.workload, deadline_seconds, warmup)
    if isinstance(case.workload, CacheProbe):
        return probe_cache(worker, case.workload, deadline_seconds)
    if isinstance(case.workload, PrefixProbe):
        return probe_prefixes(worker, case, case.workload, deadline_seconds)
    return _generate(worker, case, case.workload, facts, deadline_seconds)


def _generate(
    worker: Worker, case: Case, workload: Workload, facts: dict[str, Any], deadline_seconds: float
) -> dict[str, Value]:
    sample = worker.request(
        "generate",
        max(deadline_seconds, workload.deadline_seconds or 0),
        prompts=workload.prompts(case.spec.model_config()["vocab_size"]),
        generation_tokens=workload.generation_tokens,
        sampling=workload.sampling.model_dump() | {"seed": workload.seed},
        prefix_caching_reset=True,
        samples=workload.samples,
    )
    values = summarize_iteration(sample, workload.generation_tokens)
    values |= memory_values(sample, facts)
    values |= utilisation_values(case, workload, sample, facts)
    return values


def memory_values(sample: dict[str, Any], facts: dict[str, Any]) -> dict[str, Value]:
    """The memory that an iteration took, from a worker's raw sample and the facts of its launch.

    Bytes: of the cache's blocks held at once, in all and over the requests that ran at once, of the cache as it was
    allocated, and of the weights. Throughput per GiB counts the weights and the blocks held.
    """
    cache, weights = facts["cache"], facts["model_bytes"]
    held = sample["peak_blocks"] * cache["bytes_per_block"]
    values: dict[str, Value] = {
        "kv_cache_bytes": held,
        "kv_cache_bytes_per_request": held / max(tokens for _, tokens in sample["steps"]),
        "kv_cache_memory_bytes": cache["num_blocks"] * cache["bytes_per_block"],
    }
    if weights is not None:
        tokens = sample["prompt_tokens"] + sum(len(request["token_arrivals"]) for request in sample["requests"])
        values["model_bytes"] = weights
        values["throughput_per_gib"] = tokens / sample["elapsed_seconds"] / ((weights + held) / GIB)
    return values


def _put_load(
    worker: Worker, case: Case, workload: ServingWorkload, deadline_seconds: float, warmup: bool
) -> dict[str, Value]:
    data = _usable_data(case, worker.log.parent).path
    num_prompts = (workload.warmup_prompts if warmup else None) or workload.num_prompts
    options = workload.bench_arguments(data, num_prompts)
    deadline = max(deadline_seconds, workload.deadline_seconds or 0)
    sample = worker.request("bench", deadline, options=options, reset_prefix_cache=True)
    return summarize_load(sample, workload, num_prompts)


def _usable_data(case: Case, folder: Path) -> UsableData:
    """The file that a load reads its requests from, if any. Raises NotAMeasurement for one that cannot be used."""
    path, workload = case.data_file(), case.workload
    if path is None or not isinstance(workload, ServingWorkload):
        return UsableData(None)
    if not path.is_file():
        raise NotAMeasurement(f"no such data file: {path}; name its folder with --perf-data")
    try:
        return usable_data(path, folder) if workload.dataset == "sharegpt" else UsableData(path)
    except InputError as error:
        raise NotAMeasurement(str(error)) from None


def _run_case(
    worker: Worker, case: Case, facts: dict[str, Any], deadline_seconds: float, least_seconds: float
) -> CaseRecord:
    workload = case.workload
    least = least_seconds if isinstance(workload, Workload) else 0.0
    record = CaseRecord()
    try:
        if (note := _usable_data(case, worker.log.parent).note) is not None:
            record.notes.append(note)
        for _ in range(workload.warmup_iterations):
            record.warmup.append(iterate(worker, case, facts, deadline_seconds, warmup=True))
        begin = time.monotonic()
        while (count := len(record.iterations)) < workload.timed_iterations or (
            count < MOST_ITERATIONS and time.monotonic() - begin < least
        ):
            record.iterations.append(iterate(worker, case, facts, deadline_seconds))
        record.values = summarize_launch(record.iterations, exact_metrics(workload))
        if record.values.get("request_goodput") == 0:  # no rate to compare: a ratio to it has no meaning
            record.absent["request_goodput"] = "no request met the service-level objective"
            del record.values["request_goodput"]
    except NotAMeasurement as error:
        record.error = f"not a measurement: {error}"
    except WorkerError as error:
        if worker.process.poll() is not None:
            raise
        record.error = str(error)
    return record


def matches_expected(pattern: str, error: str) -> bool:
    """Whether an engine's error is the known one."""
    return re.search(pattern, error) is not None
