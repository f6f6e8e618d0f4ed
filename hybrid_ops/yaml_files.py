"""Reading YAML safely and with errors that a person can mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from hybrid_ops.errors import InputError, describe_validation


class StrictModel(BaseModel):
    """The base of all file schemas: no unknown field, no silent conversion, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


Schema = TypeVar("Schema", bound=StrictModel)


def round_trip_yaml() -> YAML:
    """A YAML 1.2 reader and writer that keeps comments, order and number formats, and never wraps a line."""
    yaml = YAML(typ="rt")
    yaml.width = 4096
    yaml.preserve_quotes = True
    yaml.representer.ignore_aliases = lambda data: True  # write a date out each time
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def load_yaml(path: Path, yaml: YAML | None = None) -> Any:
    """The document in `path`, by default to be edited and written again. Raises InputError with the line of a fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        document = (yaml or round_trip_yaml()).load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = str(error.problem).splitlines()[0]
        raise InputError(f"{path}:{line}: {problem}; remove one of the two") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{path}:{mark.line + 1 if mark else 0}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return document


def parse_value(text: str, option: str) -> Any:
    """A value that was written on the command line, as YAML has it. Raises InputError in the option's name."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise InputError(f"{option}: not a value in YAML: {text!r}") from None


def plain(value: Any) -> Any:
    """A document as plain dicts with text as keys, lists and scalars."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def load_schema(path: Path, schema: type[Schema], version: int) -> Schema:
    """The file at `path` validated as `schema`. Raises InputError that names every fault by file and field."""
    # What is only read is parsed in C, six times as fast: a suite may have ten thousand baselines.
    document = plain(load_yaml(path, YAML(typ="safe")))
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a mapping at the top level, found {type(document).__name__}")
    found = document.get("schema_version")
    if found != version:
        raise InputError(f"{path}: schema_version: this release reads version {version}, the file says {found!r}")
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise describe_validation(path, error) from None
