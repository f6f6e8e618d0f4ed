"""Reading a worker's answer as the type of its operation: every field that the type has, and no other."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

AnswerT = TypeVar("AnswerT")


class AnswerError(ValueError):
    """An answer is not of its operation's type. The message names the field."""


def read_answer(kind: type[AnswerT], document: Any) -> AnswerT:
    """`document`, as JSON gave it, as the dataclass `kind` and those within it. Raises AnswerError.

    Nothing is filled in: a missing field is an error, and so are a surplus one and one of another type. A whole number
    stands for a float too.
    """
    return _read(kind, document, "")


def _read(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _any_of(parts, value, where)
    if origin is list:
        return [_read(parts[0], item, f"{where}[{index}]") for index, item in enumerate(_of(list, value, where))]
    if origin is tuple:
        if len(_of(list, value, where)) != len(parts):
            raise AnswerError(f"{where} has {len(value)} parts, not {len(parts)}")
        return tuple(_read(part, item, f"{where}[{index}]") for index, (part, item) in enumerate(zip(parts, value)))
    if origin is dict:
        items = _of(dict, value, where).items()
        return {name: _read(parts[1], item, f"{where}.{name}".lstrip(".")) for name, item in items}
    if kind is Any:
        return value
    if kind is float:
        return float(_of((int, float), value, where))
    return _of(kind, value, where)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    _of(dict, value, where or "the answer")
    names = _fields(kind)
    at = f"{where}." if where else ""
    if missing := [name for name in names if name not in value]:
        raise AnswerError(f"lacks {', '.join(at + name for name in missing)}")
    if surplus := [name for name in value if name not in names]:
        raise AnswerError(f"has {', '.join(at + name for name in surplus)}, which is no field of {kind.__name__}")
    return kind(**{name: _read(part, value[name], at + name) for name, part in names.items()})


@cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _any_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    choices = [kind for kind in kinds if kind is not type(None)]
    if type(value) in choices:  # a whole number is not turned into a float where both may stand
        return value
    for kind in choices[:-1]:
        try:
            return _read(kind, value, where)
        except AnswerError:
            continue
    return _read(choices[-1], value, where)


def _of(kind: Any, value: Any, where: str) -> Any:
    """The value, if it is of this plain type; a truth value is no number."""
    is_number = isinstance(value, bool) and kind is not bool
    if is_number or not isinstance(value, kind):
        named = " or ".join(k.__name__ for k in kind) if isinstance(kind, tuple) else kind.__name__
        raise AnswerError(f"has {where} = {value!r:.60}, which is not of the type {named}")
    return value
