"""Every parameter of every public function is drawn, varied, and held against the papers' loops.

The first test lists functions and parameters by introspection: a new one that no strategy of `calls` varies fails it.
"""

import inspect
from collections import defaultdict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hybrid_ops.layers import masks
from hybrid_ops.layers.rotary import rotary_frequencies
from tests.layers.calls import FUNCTIONS, MODULES, Call
from tests.layers.checks import expect, relative_error
from tests.layers.inputs import examples

BOUND = 1e-11
"""Relative error of two float64 computations: ten times that of `checks`, as sums may cancel to a tenth here."""

every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)


def fingerprint(value: Any) -> str:
    """What tells two values of a parameter apart."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.tolist()}"
    return f"{value.__qualname__} {id(value)}" if callable(value) else repr(value)


def public_functions() -> set[Any]:
    return {
        function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and function.__module__ == module.__name__
    }


def test_every_public_function_is_drawn():
    assert public_functions() == set(FUNCTIONS)


@every_function
def test_every_parameter_is_varied(function):
    seen: dict[str, dict[str, Any]] = defaultdict(dict)

    @settings(max_examples=60, derandomize=True, database=None)
    @given(FUNCTIONS[function])
    def draw(call: Call) -> None:
        for name, parameter in inspect.signature(function).parameters.items():
            value = call.arguments.get(name, parameter.default)
            seen[name][fingerprint(value)] = value

    draw()
    constant = [name for name, values in seen.items() if len(values) < 2]
    assert constant == [], f"{function.__name__}: {', '.join(constant)} never takes another value"
    for name, parameter in inspect.signature(function).parameters.items():
        values = list(seen[name].values())
        if parameter.default is None:
            assert None in [value for value in values if not isinstance(value, Tensor)], f"{name} is always given"
            assert any(value is not None for value in values), f"{name} is never given"
        if parameter.annotation is bool:
            assert set(values) == {True, False}, name


def agree(actual: Any, expected: Any, bound: float) -> None:
    """Equal, and for floating point within a relative bound; tensors without values have the same shape and dtype."""
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            agree(one, other, bound)
        return
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if expected.is_meta:
        assert actual.is_meta
    elif expected.is_floating_point():
        expect("result", relative_error(actual, expected), bound)
    else:
        assert torch.equal(actual, expected)


@every_function
@given(data=st.data())
def test_every_function_is_its_formula_for_every_argument(function, data):
    call = data.draw(FUNCTIONS[function])
    expected = call.expected()
    agree(call.read(function(**call.arguments)), expected, BOUND)
    agree(call.read(function(**call.shortest(function))), expected, BOUND)


def copied(arguments: dict[str, Any], dtype: torch.dtype | None = None) -> dict[str, Any]:
    """The arguments with tensors of their own, the floating ones in a dtype."""
    copies = {}
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            value = value.to(dtype or value.dtype, copy=True) if value.is_floating_point() else value.clone()
        copies[name] = value
    return copies


@every_function
@examples(10)
@given(data=st.data())
def test_no_argument_is_written_to(function, data):
    call = data.draw(FUNCTIONS[function])
    given = copied(call.arguments)
    function(**given)
    for name, value in call.arguments.items():
        if isinstance(value, Tensor) and not value.is_meta:
            assert torch.equal(given[name], value), name


@every_function
@examples(10)
@given(data=st.data())
def test_autocast_changes_nothing_however_the_arguments_are_ordered(function, data):
    """Also where an option, by name, comes before the first tensor."""
    call = data.draw(FUNCTIONS[function])
    given = copied(call.arguments, torch.float32)
    expected = call.read(function(**given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        forwards = call.read(function(**given))
        backwards = call.read(function(**dict(reversed(given.items()))))
    agree(forwards, expected, 0.0)
    agree(backwards, expected, 0.0)


class Watch(TorchFunctionMode):
    """Notes whether autocast was on while a floating tensor was made."""

    def __init__(self) -> None:
        super().__init__()
        self.on: list[bool] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.on.append(torch.is_autocast_enabled("cpu"))
        return result


COMPUTING = [function for function in FUNCTIONS if function.__module__ != masks.__name__]
COMPUTING.remove(rotary_frequencies)


@pytest.mark.parametrize("function", [*COMPUTING, masks.alibi], ids=lambda function: function.__name__)
def test_every_function_that_computes_says_in_what(function):
    assert "\nPrecision: " in inspect.getdoc(function)


@pytest.mark.parametrize("function", COMPUTING, ids=lambda function: function.__name__)
@examples(5)
@given(data=st.data())
def test_autocast_is_off_inside_every_function_that_computes(function, data):
    """Masks, and what makes frequencies, have nothing that autocast could round."""
    given = copied(data.draw(FUNCTIONS[function]).arguments, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), Watch() as watch:
        function(**given)
    assert watch.on and not any(watch.on)
