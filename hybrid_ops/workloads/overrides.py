"""What the command line sets anew: fields of workloads, arguments of engines, fields of model configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hybrid_ops.errors import InputError, describe_validation
from hybrid_ops.models.configs import load_config
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.suites import Suites, split_entry
from hybrid_ops.yaml_files import parse_value

OPTION = "--perf-set"
FIXED = {"description", "models", "reduced", "kind", "sweep", "given_prompts"}
"""Fields that say what a definition is, not how it is run."""
SHAPE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters",
    "tie_word_embeddings", "dtype",
)  # fmt: skip
"""What a comparison takes over from the configuration of another base model."""


@dataclass(frozen=True)
class Overrides:
    """Values in place of those of the suites, the engines' arguments and the models' configurations."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    base_config: Mapping[str, Any] = field(default_factory=dict)
    """The shape of another base model, for the models of comparisons."""
    cores: int | None = None
    """The cores that each rank of an engine on a CPU is bound to."""

    def apply(self, suites: Suites, suite: str) -> Suites:
        """`suites` with the fields set anew in each workload of `suite` that has them.

        Raises InputError for a field that none of them has and for a value that one does not take.
        """
        named = {name: suites.definitions[name] for name in (split_entry(e).workload for e in suites.suites[suite])}
        if self.base_config and not any(definition.has_base_model for definition in named.values()):
            raise InputError(f"{OPTION}: model: only a comparison has a base model, and the suite {suite} has none")
        changed = dict(suites.definitions)
        used: set[str] = set()
        known: set[str] = set()
        for name, definition in named.items():
            own = type(definition).model_fields.keys() - FIXED
            known |= own
            used |= own & self.fields.keys()
            values = {key: value for key, value in self.fields.items() if key in own}
            if values:
                changed[name] = _with_fields(definition, values)
        for unknown in [name for name in self.fields if name not in used]:
            raise InputError(
                f"{OPTION}: no workload of the suite {suite} has a field {unknown!r}; there are "
                f"{', '.join(sorted(known))}, cores, arg.NAME and config.NAME"
            )
        return replace(suites, definitions=changed)

    def config_changes(self, config: Mapping[str, Any], has_base_model: bool) -> dict[str, Any]:
        """The changes to a model's configuration: of each field that it has a value for.

        `has_base_model` says whether it takes over the shape of another base model.
        """
        own = {name: value for name, value in self.config.items() if config.get(name) is not None}
        return {**(self.base_config if has_base_model else {}), **own}


def parse_overrides(texts: Sequence[str]) -> Overrides:
    """Overrides from `FIELD=VALUE`, `arg.NAME=VALUE`, `config.NAME=VALUE`, `model=NAME_OR_CONFIG` and `cores=N`.

    Values are YAML; of a field, `256,512` is a list. Raises InputError.
    """
    fields: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    config: dict[str, Any] = {}
    base_config: dict[str, Any] = {}
    cores: int | None = None
    for text in texts:
        name, equals, value = text.partition("=")
        kind, dot, key = name.partition(".")
        if not equals or not name or not value or (dot and (kind not in ("arg", "config") or not key)):
            raise InputError(f"{OPTION}: FIELD=VALUE, arg.NAME=VALUE or config.NAME=VALUE, not {text!r}")
        if dot:
            (arguments if kind == "arg" else config)[key] = parse_value(value, f"{OPTION}: {name}")
        elif name == "model":
            base_config = _shape(value)
        elif name == "cores":
            cores = _count(value)
        else:
            is_list = "," in value and value[0] not in "[{\"'"
            fields[name] = parse_value(f"[{value}]" if is_list else value, f"{OPTION}: {name}")
    return Overrides(fields, arguments, config, base_config, cores)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{OPTION}: cores: how many cores each engine on the CPU is bound to, not {text!r}")
    return int(text)


def _shape(model: str) -> dict[str, Any]:
    """The shape of a base model, by its name in the zoo or its config.json. Raises InputError."""
    config = load_config(model)
    try:
        heads = config["num_attention_heads"]
        derived = {"num_key_value_heads": heads, "head_dim": config["hidden_size"] // heads, "rope_scaling": None}
    except KeyError as error:
        raise InputError(f"{OPTION}: model: {model}: no base of attention layers: it has no {error.args[0]}") from None
    return {**derived, **{name: config[name] for name in SHAPE if config.get(name) is not None}}


def _with_fields(definition: Definition, values: Mapping[str, Any]) -> Definition:
    """The definition with other values, validated anew. A single value for a field of several is a list of one."""
    document = definition.model_dump(mode="json")
    for name, value in values.items():
        document[name] = [value] if isinstance(document[name], list) and not isinstance(value, list) else value
        for reduction in document.get("reduced", {}).values():
            reduction.pop(name, None)
    try:
        return type(definition).model_validate(document)
    except ValidationError as error:
        raise describe_validation(Path(OPTION), error) from None
