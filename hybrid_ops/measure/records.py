"""What is written down of a launch and of a launch pair, as `results.json` and the run's folder have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from hybrid_ops.engines.protocol import LoadFacts
from hybrid_ops.measure.values import Value

LaunchName = Annotated[str, Field(validation_alias="engine", serialization_alias="engine")]
"""The spec that a launch was made of, by the name of its launches. Files call it `engine`."""


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
    seconds: float | None = None
    """How long it was measured, warm-up included; None where it was not reached, and in older files."""


@dataclass(config={"populate_by_name": True})
class LaunchRecord:
    """What one launch was and saw. `error` is set when the engine did not load; then no case has values."""

    launch_name: LaunchName
    index: int
    started: str
    seconds: float
    log: str
    device: dict[str, Any]
    arguments: dict[str, Any]
    environment: dict[str, str | None]
    facts: LoadFacts | None = None
    """What the engine said of itself once it had loaded; None where it did not."""
    cases: dict[str, CaseRecord] = field(default_factory=dict)
    error: str | None = None
    conditions: dict[str, Any] = field(default_factory=dict)
    """What the machine showed while the cases ran."""
    violations: list[str] = field(default_factory=list)
    """The limits that it violated: then the launch's times and rates do not count."""
    waited: float = 0.0
    """Seconds before it began in which others held the device."""

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
        return {} if self.facts is None else self.facts.versions

    @property
    def reference_kernels(self) -> list[str]:
        """The operations that the engine ran on the suite's reference kernels."""
        return [] if self.facts is None else self.facts.reference_kernels

    @property
    def launches(self) -> Sequence[LaunchRecord]:
        """The launches of the record: itself."""
        return (self,)


@dataclass(config={"populate_by_name": True})
class PairRecord:
    """What one launch pair was and saw. `log_ratios` are log(B / A) by case and metric; exact metrics have none."""

    launch_name: LaunchName
    index: int
    started: str
    seconds: float
    mode: Literal["live", "alternate"]
    arms: list[LaunchRecord]
    log_ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    waited: float = 0.0
    """Seconds before it began in which others held the device."""

    @property
    def error(self) -> str | None:
        """Why an arm did not load, or None."""
        return next((f"arm {name}: {arm.error}" for name, arm in zip("ab", self.arms) if arm.error), None)

    @property
    def failed(self) -> bool:
        return any(arm.failed for arm in self.arms)

    @property
    def unfit(self) -> bool:
        """Whether the machine was not fit to measure while an arm ran alone."""
        return any(arm.unfit for arm in self.arms)

    @property
    def versions(self) -> dict[str, str]:
        return self.arms[0].versions

    @property
    def launches(self) -> Sequence[LaunchRecord]:
        """The launches of the record: one of each arm."""
        return self.arms


Record = LaunchRecord | PairRecord
"""What a run keeps of each index of a spec."""


def matches_expected(pattern: str, error: str) -> bool:
    """Whether an engine's error is the known one."""
    return re.search(pattern, error) is not None
