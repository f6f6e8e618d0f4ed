"""What is asked of an engine: closed batches, and the suites, which are lists of workloads of every kind."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from hybrid_ops.errors import InputError
from hybrid_ops.workloads.comparison import Attention, Comparison
from hybrid_ops.workloads.probe import CacheProbe, PrefixProbe, Probe
from hybrid_ops.workloads.rollout import Rollout
from hybrid_ops.workloads.sampling import Sampling
from hybrid_ops.workloads.scaling import scaled_name
from hybrid_ops.workloads.serving import ServingWorkload, expand_sweeps
from hybrid_ops.yaml_files import StrictModel, load_schema

SUITES_FILE = Path(__file__).parent / "suites.yaml"
SUITES_SCHEMA_VERSION = 1
DEFAULT = "default"
"""The configuration of an engine without further arguments."""
FIRST_ORDINARY_TOKEN = 10
"""Prompts are drawn from here on: the ids below are commonly special tokens."""


class Workload(StrictModel):
    """One closed batch: so many prompts of one length, so many generated tokens for each of their samples."""

    description: str
    prompt_tokens: int = Field(gt=0)
    """Tokens of each prompt; of given ones, the most."""
    generation_tokens: int = Field(gt=0)
    num_prompts: int = Field(default=1, gt=0)
    sampling: Sampling = Sampling()
    warmup_iterations: int = Field(default=2, ge=0)
    timed_iterations: int = Field(default=3, gt=0)
    seed: int = 42
    samples: int = Field(default=1, gt=0)
    """Generations of each prompt. Those after the first have the seeds that follow."""
    rollout_length: int | None = None
    """Of a rollout: the generation length before it was scaled to the model's context."""
    deadline_seconds: float | None = Field(default=None, gt=0)
    """What an iteration may take at least, where that is more than `--perf-deadline` allows."""
    given_prompts: list[list[int]] | None = None
    """Token ids in place of drawn ones."""

    def prompts(self, vocabulary_size: int) -> list[list[int]]:
        """The prompts as token ids, the same in every process: uniform draws from the ordinary tokens, or the given."""
        if self.given_prompts is not None:
            return self.given_prompts
        generator = random.Random(f"{self.seed}:{self.prompt_tokens}:{self.num_prompts}:{vocabulary_size}")  # noqa: S311
        return [
            [generator.randrange(FIRST_ORDINARY_TOKEN, vocabulary_size) for _ in range(self.prompt_tokens)]
            for _ in range(self.num_prompts)
        ]


class ComparedWorkload(Workload):
    """A closed batch of a comparison: one configuration of attention at one input length."""

    base: str
    """Which of the comparison's base models it is put to."""
    attention: Attention
    published_tokens: int
    """The input length before it was scaled to the model's context."""
    place: Literal["only", "shortest", "between", "longest"]
    """Where its input length stands among those of the comparison. No part of what defines a measurement."""


AnyWorkload = Workload | ServingWorkload | CacheProbe | PrefixProbe
"""All that can be asked of an engine."""


class Configuration(StrictModel):
    """Engine arguments under a name of their own, which a suite adds to a workload's: `prefix-cache@float32`."""

    arguments: dict[str, Any]
    models: list[str] | None = None
    """The models of the zoo that are launched so; all when absent."""


class Suites(StrictModel):
    """A file of workloads and of suites, which are lists of their names."""

    schema_version: int
    workloads: dict[str, Workload] = {}
    serving: dict[str, ServingWorkload] = {}
    """Loads on a server. One whose `max_concurrency` is a list stands for one load for each of its members."""
    probes: dict[str, Probe] = {}
    rollouts: dict[str, Rollout] = {}
    """Each stands for one workload a generation length, scaled to the context of each model."""
    comparisons: dict[str, Comparison] = {}
    """Each stands for one workload an input length, for the three models of each base model."""
    configurations: dict[str, Configuration] = {}
    suites: dict[str, list[str]]

    @model_validator(mode="before")
    @classmethod
    def _expand_sweeps(cls, document: Any) -> Any:
        if not isinstance(document, dict) or not isinstance(document.get("serving"), dict):
            return document
        loads, sweeps = expand_sweeps(document["serving"])
        suites = document.get("suites")
        if isinstance(suites, dict):
            suites = {
                suite: [point for name in names for point in sweeps.get(name, [name])]
                if isinstance(names, list)
                else names
                for suite, names in suites.items()
            }
        return {**document, "serving": loads, "suites": suites}

    @property
    def all_workloads(self) -> dict[str, AnyWorkload]:
        """Workloads of every kind, by name."""
        return {**self.workloads, **self.serving, **self.probes}

    def rollout(self, name: str, context: int, given_prompts: list[list[int]] | None = None) -> dict[str, Workload]:
        """The workloads of a rollout on a model of `context` tokens, by name. Raises InputError."""
        rollout = self.rollouts[name]
        divisor = rollout.scale(context)
        prompt_tokens = rollout.prompt_tokens // divisor
        shared = rollout.model_dump(exclude={"generation_tokens", "sampling", "prompt_tokens"})
        return {
            scaled_name(name, length, divisor): Workload(
                **shared,
                sampling=rollout.sampling,
                prompt_tokens=prompt_tokens,
                generation_tokens=length // divisor,
                rollout_length=length,
                given_prompts=given_prompts and [prompt[:prompt_tokens] for prompt in given_prompts],
            )
            for length in rollout.generation_tokens
        }

    def comparison(self, name: str, model: str, platform: str, context: int) -> dict[str, ComparedWorkload]:
        """The workloads of a comparison on one of its models, of `context` tokens, by name. Raises InputError."""
        comparison = self.comparisons[name].on(platform)
        known = comparison.base_of(model)
        if known is None:
            return {}
        base, attention = known
        divisor = comparison.scale(context)
        lengths = sorted(set(comparison.prompt_tokens))
        shared = comparison.model_dump(
            exclude={"description", "models", "prompt_tokens", "generation_tokens", "sampling", "reduced"}
        )
        return {
            scaled_name("input", length, divisor): ComparedWorkload(
                **shared,
                description=f"{comparison.description}: {attention}",
                sampling=comparison.sampling,
                prompt_tokens=length // divisor,
                generation_tokens=comparison.generation_tokens // divisor,
                base=base,
                attention=attention,
                published_tokens=length,
                place=_place(length, lengths),
            )
            for length in lengths
        }

    def configuration(self, entry: str) -> Configuration:
        """The configuration that an entry of a suite asks for."""
        name = split_entry(entry).configuration
        return Configuration(arguments={}) if name == DEFAULT else self.configurations[name]


def _place(length: int, lengths: list[int]) -> Literal["only", "shortest", "between", "longest"]:
    """Where a length stands in a sorted list."""
    if len(lengths) == 1:
        return "only"
    return "shortest" if length == lengths[0] else "longest" if length == lengths[-1] else "between"


class SuiteEntry(NamedTuple):
    """What a suite lists: `decode`, `decode@prefix-caching` or, for one model, `llama-tiny/decode@prefix-caching`."""

    workload: str
    configuration: str
    model: str | None
    """The only model that is asked; all when None."""


def split_entry(entry: str) -> SuiteEntry:
    """The parts of a suite's entry."""
    model, _, asked = entry.rpartition("/")
    workload, mark, configuration = asked.partition("@")
    return SuiteEntry(workload, configuration if mark else DEFAULT, model or None)


def load_suites(path: Path = SUITES_FILE) -> Suites:
    """The workloads and suites of a file. Raises InputError."""
    loaded = load_schema(path, Suites, SUITES_SCHEMA_VERSION)
    names = [*loaded.workloads, *loaded.serving, *loaded.probes, *loaded.rollouts, *loaded.comparisons]
    for kind in ("serving", "probes", "rollouts", "comparisons"):
        for name in getattr(loaded, kind):
            if names.count(name) > 1:
                raise InputError(f"{path}: {kind}.{name}: a workload has this name already")
    for suite, entries in loaded.suites.items():
        for entry in entries:
            name, configuration, _ = split_entry(entry)
            if name not in names:
                raise InputError(f"{path}: suites.{suite}: no workload is named {name!r}")
            if configuration != DEFAULT and configuration not in loaded.configurations:
                raise InputError(f"{path}: suites.{suite}: no configuration is named {configuration!r}")
    return loaded


def definition_hash(*parts: str) -> str:
    """A short hash of what defines a measurement. Two values are comparable only when it is the same."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
