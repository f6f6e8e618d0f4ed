"""The fields of a Hugging Face configuration, read with errors that name the file and the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hybrid_ops.errors import InputError


class Fields:
    """The fields of one configuration, with errors that name the file and the field."""

    def __init__(self, config: Mapping[str, Any], source: str):
        self.config = config
        self.source = source

    def fault(self, field: str, message: str) -> InputError:
        return InputError(f"{self.source}: {field}: {message}")

    def size(self, field: str, default: int | None = None, minimum: int = 1) -> int:
        """A whole number of at least `minimum`; required when there is no default."""
        value = self.config.get(field)
        if value is None:
            value = default
        if value is None:
            raise self.fault(field, "missing")
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.fault(field, f"expected a whole number of at least {minimum}, found {value!r}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.config.get(field)
        return default if value is None else bool(value)

    def window(self, field: str, default: int | None) -> int | None:
        """A window in tokens, or None where the configuration says null."""
        if field in self.config and self.config[field] is None:
            return None
        return default if field not in self.config else self.size(field)

    def layer_types(self, field: str, default: Callable[[int], str] | None, known: Mapping[str, str]) -> list[str]:
        """One layer type a layer, in our words. `known` translates the configuration's."""
        given = self.config.get(field)
        if given is None:
            if default is None:
                raise self.fault(field, "missing")
            given = [default(index) for index in range(self.size("num_hidden_layers"))]
        elif not isinstance(given, list | str):
            raise self.fault(field, f"expected a list of layer types, found {given!r}")
        count = self.size("num_hidden_layers", default=len(given))
        if len(given) != count:
            raise self.fault(field, f"{len(given)} layer types for num_hidden_layers = {count}")
        for kind in given:
            if kind not in known:
                raise self.fault(field, f"unknown layer type {kind!r}; known: {', '.join(known)}")
        return [known[kind] for kind in given]
