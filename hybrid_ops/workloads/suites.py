"""Suites files: definitions of what is asked, by kind, and suites, which are lists of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, Union

from pydantic import Field, create_model, model_validator

from hybrid_ops.errors import InputError
from hybrid_ops.workloads.base import DEFAULT, Definition
from hybrid_ops.yaml_files import StrictModel, load_schema

SUITES_FILE = Path(__file__).parent / "suites.yaml"
SUITES_SCHEMA_VERSION = 1

DefinitionT = TypeVar("DefinitionT", bound=Definition)
Sections = Mapping[str, Sequence[type[Definition]]]
"""What each section of a suites file holds. Where it is more than one kind, the field `kind` tells them apart."""


class Configuration(StrictModel):
    """Engine arguments under a name of their own, which a suite adds to a workload's: `prefix-cache@float32`."""

    engine: str | None = None
    """The engine that answers in place of the model's own."""
    arguments: dict[str, Any] = {}
    models: list[str] | None = None
    """The models of the zoo that are launched so; all when absent."""
    cores: int | None = Field(default=None, gt=0)
    """How many cores each rank of an engine on a CPU is bound to; when absent all share the whole machine."""
    replicas: int = Field(default=1, gt=0)
    """How many engines share each batch, on devices of their own; on a CPU each with `cores` cores, or one."""

    @property
    def places(self) -> bool:
        """Whether it says on how many devices an engine runs."""
        is_parallel = any(name.endswith("_parallel_size") for name in self.arguments)
        return self.cores is not None or self.replicas > 1 or is_parallel


@dataclass(frozen=True)
class Suites:
    """The contents of a suites file."""

    source: Path
    definitions: Mapping[str, Definition]
    """Everything that can be asked, of every section, by name."""
    configurations: Mapping[str, Configuration]
    suites: Mapping[str, Sequence[str]]

    def of_kind(self, kind: type[DefinitionT]) -> dict[str, DefinitionT]:
        """The definitions of one kind, by name."""
        return {name: one for name, one in self.definitions.items() if isinstance(one, kind)}

    def configuration(self, entry: str) -> Configuration:
        """The configuration that an entry of a suite asks for."""
        name = split_entry(entry).configuration
        return Configuration() if name == DEFAULT else self.configurations[name]


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


class _SuitesFile(StrictModel):
    """What every suites file has. The sections are added for each reader."""

    schema_version: int
    configurations: dict[str, Configuration] = {}
    suites: dict[str, list[str]]


def load_suites(sections: Sections, path: Path = SUITES_FILE) -> Suites:
    """The definitions and suites of a file that has these sections. Raises InputError."""
    loaded = load_schema(path, _schema(sections), SUITES_SCHEMA_VERSION)
    definitions: dict[str, Definition] = {}
    for section in sections:
        for name, definition in getattr(loaded, section).items():
            if name in definitions:
                raise InputError(f"{path}: {section}.{name}: a workload has this name already")
            definitions[name] = definition
    for suite, entries in loaded.suites.items():
        for entry in entries:
            name, configuration, _ = split_entry(entry)
            if name not in definitions:
                raise InputError(f"{path}: suites.{suite}: no workload is named {name!r}")
            if configuration != DEFAULT and configuration not in loaded.configurations:
                raise InputError(f"{path}: suites.{suite}: no configuration is named {configuration!r}")
    return Suites(path, definitions, loaded.configurations, loaded.suites)


def _schema(sections: Sections) -> type[_SuitesFile]:
    """The schema of a file with these sections, in which one entry may stand for several."""

    def expand(document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        document = dict(document)
        for section, kinds in sections.items():
            if not isinstance(document.get(section), dict):
                continue
            for kind in kinds:
                document[section], replaced = kind.expand(document[section])
                document["suites"] = _replaced(document.get("suites"), replaced)
        return document

    fields: dict[str, Any] = {section: (dict[str, _any_of(kinds)], {}) for section, kinds in sections.items()}  # type: ignore[misc]
    validators: dict[str, Any] = {"expand": model_validator(mode="before")(expand)}
    return create_model("SuitesFile", __base__=_SuitesFile, __validators__=validators, **fields)


def _any_of(kinds: Sequence[type[Definition]]) -> Any:
    """The type of an entry that is one of `kinds`."""
    if len(kinds) == 1:
        return kinds[0]
    return Annotated[Union[tuple(kinds)], Field(discriminator="kind")]  # noqa: UP007 - made from a list


def _replaced(suites: Any, replaced: Mapping[str, list[str]]) -> Any:
    """The suites of a document, with each name that stands for several replaced by these."""
    if not isinstance(suites, dict):
        return suites
    return {
        suite: [point for name in names for point in replaced.get(name, [name])] if isinstance(names, list) else names
        for suite, names in suites.items()
    }
