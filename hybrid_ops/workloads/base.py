"""What every entry of a suites file and everything asked of an engine has in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import Field

from hybrid_ops.yaml_files import StrictModel

DEFAULT = "default"
"""The configuration of an engine without further arguments."""
FIRST_ORDINARY_TOKEN = 10
"""Prompts are drawn from here on: the ids below are commonly special tokens."""


class Definition(StrictModel):
    """An entry of a suites file, in the section of its kind. It stands for one workload or for several."""

    description: str

    has_base_model: ClassVar[bool] = False
    """Whether its models take over the shape of the base model that `--perf-set model=…` names."""

    @classmethod
    def expand(cls, entries: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """The section's entries, not yet validated, with those that stand for several replaced by these.

        Also returns, for each name that was replaced, the names that a suite gets in its place.
        """
        return dict(entries), {}

    def named_models(self) -> Iterable[tuple[str, str]]:
        """The models of the zoo that it names: each with the field that names it."""
        return ()


class Workload(Definition):
    """What is asked of an engine in one case, and how often."""

    warmup_iterations: int = Field(default=2, ge=0)
    timed_iterations: int = Field(default=3, gt=0)
    deadline_seconds: float | None = Field(default=None, gt=0)
    """What an iteration may take at least, where that is more than `--perf-deadline` allows."""

    undefining: ClassVar[frozenset[str]] = frozenset({"description"})
    """Fields that do not change what is measured."""
    platform_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields whose value may follow from the platform."""

    def definition(self, portable: bool) -> str:
        """What defines a measurement, as text. `portable` leaves out what may follow from the platform."""
        left_out = self.undefining | (self.platform_fields if portable else frozenset())
        return json.dumps(self.model_dump(mode="json", exclude=set(left_out)), sort_keys=True)


def definition_hash(*parts: str) -> str:
    """A short hash of what defines a measurement. Two values are comparable only when it is the same."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
