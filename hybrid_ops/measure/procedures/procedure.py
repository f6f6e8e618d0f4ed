"""What a procedure is: a kind of work, and how it is measured. One class, in one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hybrid_ops.engines.protocol import LoadFacts
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.worker import Worker
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.claim import Claim
from hybrid_ops.measure.metrics import Kind, Metric
from hybrid_ops.measure.values import Value, summarize_launch
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.models.zoo import ExpectedFailure, ModelEntry
from hybrid_ops.workloads.base import Definition, Workload

WorkloadT = TypeVar("WorkloadT", bound=Workload)


@dataclass(frozen=True)
class Asked:
    """An entry of a suite as it is put to one model."""

    model: str
    entry: ModelEntry
    name: str
    """What the suite calls it."""
    definition: Definition
    spec: Callable[..., EngineSpec]
    """Makes the spec: with the configuration's arguments, then those given as `arguments=`, then the command line's.
    `environment=` gives variables of the engine's environment."""
    data_folder: Path
    prompt_texts: Sequence[str] | None
    """Prompts that the command line gave."""


@dataclass(frozen=True)
class Iteration:
    """One iteration of a case that is to be measured."""

    case: Case
    worker: Worker
    facts: LoadFacts
    folder: Path
    """The launch's own folder."""
    deadline_seconds: float
    peaks: DevicePeaks | None = None
    """The device's peaks, where they are known and needed."""
    is_warmup: bool = False
    timed: list[tuple[float, float]] = field(default_factory=list)
    """For a procedure that knows better than the whole of `iterate` what was timed: the beginning and end of each part,
    on the system's monotonic clock. Energy is that of these alone."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the case's values should know. An iteration may add to it."""

    def note(self, text: str) -> None:
        """Add a note, unless it is there."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def patience(self) -> float:
        """How long one answer may take, in seconds: what the run allows, or what the workload needs."""
        return max(self.deadline_seconds, self.case.workload.deadline_seconds or 0.0)


@dataclass
class Summary:
    """What all iterations of a case in one launch come to."""

    values: dict[str, Value]
    absent: dict[str, str] = field(default_factory=dict)
    """Metrics without a value, and why."""


class Procedure(ABC):
    """A kind of work: what it asks, the cases it makes of a model, its metrics, and one iteration.

    To add one, subclass it in a file of its own and list an instance in `procedures.PROCEDURES`, or call
    `procedures.register` from a pytest plugin.
    """

    name: ClassVar[str]
    section: ClassVar[str]
    """The section of a suites file that holds its definitions. Where several procedures share one, the definitions'
    field `kind` tells them apart."""
    definition_type: ClassVar[type[Definition]]
    """What an entry of that section is."""
    operations: ClassVar[frozenset[str]]
    """What it asks of a worker. An engine that does not answer all of it has no case of this kind."""
    metrics: ClassVar[tuple[Metric, ...]]
    """Every metric that a case of it can have, in the order in which they are shown; those of a length without it."""
    fixture: ClassVar[str] = "cell"
    """The pytest fixture that stands for its judged cells."""
    pace: ClassVar[str | None] = None
    """The metric that shows how fast an engine is at all: whether it has warmed up, whether its launches agree."""
    tokens_value: ClassVar[str | None] = None
    """The value of an iteration that counts the tokens which energy is divided by; None where it is not to be."""
    headline: ClassVar[tuple[str, ...]] = ()
    """The metrics that a short table shows of a case in which nothing is to be said."""
    runs_the_model: ClassVar[bool] = True
    """Whether the model computes anything, so that a known failure of the model must show."""
    is_brief: ClassVar[bool] = False
    """Whether an iteration takes moments, so that it is repeated until a launch has lasted long enough to tell."""
    details_key: ClassVar[str | None] = None
    """Where in `results.json` the details of its cases stand; None where there are none."""
    claims: ClassVar[tuple[Claim, ...]] = ()
    """Bounds that its ratios are held against. They are reported and fail no testcase."""
    guards: ClassVar[bool] = False
    """Whether its bounded metrics say that the engine computes what it should. Where they fail, no other case of the
    same launches is believed to be faster."""
    is_its_own_configuration: ClassVar[bool] = False
    """Whether its cases are launched under its own name, as a configuration of the engine."""

    @abstractmethod
    def cases(self, asked: Asked) -> list[Case]:
        """The cases that it makes of a model; none where the model has no part in it. Raises InputError."""

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        """The metrics of one case, in the order in which they are shown."""
        return self.metrics

    @abstractmethod
    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        """Measure one iteration. Raises WorkerError, and NotAMeasurement for what must not count."""

    def summarize(self, case: Case, iterations: Sequence[Mapping[str, Value]]) -> Summary:
        """What the timed iterations of a launch come to: their medians, and what is exact once."""
        return Summary(summarize_launch(iterations, self.exact_metrics(case)))

    def notes(self, case: Case, folder: Path) -> list[str]:
        """What a reader of a case's values should know, before it is measured. Raises NotAMeasurement."""
        return []

    def definition(self, case: Case) -> list[str]:
        """What beside its spec and workload defines a measurement of the case, as text."""
        return []

    def reference_model(self, case: Case, metric: Metric, definition: Definition) -> str | None:
        """The model whose case of the same workload a ratio is divided by; None where there is none."""
        return case.spec.entry.reference

    def refuse_without_reference(self, case: Case, model: str) -> None:  # noqa: B027 - by default nothing is refused
        """Raise InputError where a ratio must not go without the reference `model`, which has no such workload.

        By default the ratio is then no cell.
        """

    def known_failure(self, case: Case, metric: Metric) -> ExpectedFailure | None:
        """What is known to fail of one metric, where the rest of the case runs: such as a pass that a kernel lacks."""
        return None

    def details(self, case: Case) -> dict[str, Any] | None:
        """What `results.json` says of a case beside its values."""
        return None

    def is_claimed(self, claim: Claim, case: Case) -> bool:
        """Whether one of its claims is made for this case."""
        return True

    def claim_place(self, case: Case) -> tuple[str, int]:
        """What a claim about the case is about: the base of the comparison, and the input length in tokens."""
        return case.spec.model, 0

    def arithmetic(self, case: Case) -> str:
        """The data type of a case's arithmetic, for whose peak its utilisation is a share."""
        return case.spec.layer_stack().dtype

    def exact_metrics(self, case: Case) -> Collection[str]:
        """The names of the metrics that must be the same in every iteration of a case."""
        return {metric.name for metric in self.metrics_of(case) if metric.kind is Kind.EXACT}

    def is_exact(self, case: Case) -> bool:
        """Whether all its metrics are exact, so that one iteration tells everything."""
        return all(metric.kind is Kind.EXACT for metric in self.metrics_of(case))


def workload_of(case: Case, kind: type[WorkloadT]) -> WorkloadT:
    """The case's workload, which its own procedure knows to be of this kind."""
    assert isinstance(case.workload, kind)
    return case.workload
