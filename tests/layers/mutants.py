"""Mutants: copies of the layers with one planted error, to prove that the checks would notice."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from hypothesis import settings

import hybrid_ops.layers
from tests.layers.inputs import SHORT_SEGMENTS

PACKAGE = "hybrid_ops.layers"
FILES = (
    "precision",
    "chunks",
    "norms",
    "masks",
    "packing",
    "rotary",
    "convolution",
    "delta_rule",
    "ssd",
    "selective_scan",
    "attention",
    "mixers",
    "blocks",
    "language_model",
)
TESTS = (
    "calls",
    "configurations",
    "test_models",
    "test_parameters",
    "test_configurations",
    "test_precision",
    "test_states",
)
"""Modules of tests that name layers when they are imported, so that each mutant needs its own."""


@contextmanager
def mutated(file: str, old: str, new: str) -> Iterator[dict[str, ModuleType]]:
    """Fresh copies of all layer modules, one of them with `old` replaced by `new`; the real ones return afterwards.

    Raises:
        ValueError: `old` does not occur exactly once in the file, so that the mutant would not be what its row says.
    """
    source = Path(hybrid_ops.layers.__file__).with_name(f"{file}.py").read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise ValueError(f"{file}: {old!r} occurs {source.count(old)} times, not once")
    names = [f"{PACKAGE}.{name}" for name in FILES] + [f"tests.layers.{name}" for name in TESTS]
    kept = {name: sys.modules.pop(name, None) for name in names}
    parents = [hybrid_ops.layers, sys.modules["tests.layers"]]
    attributes = [dict(vars(parent)) for parent in parents]
    try:
        mutant = ModuleType(f"{PACKAGE}.{file}")
        sys.modules[mutant.__name__] = mutant
        setattr(hybrid_ops.layers, file, mutant)  # `from hybrid_ops.layers import file` looks here first
        exec(compile(source.replace(old, new), f"{file}.py (mutant)", "exec"), mutant.__dict__)
        yield {name: importlib.import_module(f"{PACKAGE}.{name}") for name in FILES}
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in kept.items() if module is not None})
        for parent, before in zip(parents, attributes, strict=True):
            vars(parent).clear()
            vars(parent).update(before)


def fails(modules: dict[str, ModuleType], test_module: str, test: str, *arguments: object) -> bool:
    """Whether a test of the layers fails for mutated modules; an argument that names a function means the mutant's."""
    functions = {name: value for module in modules.values() for name, value in vars(module).items() if callable(value)}
    modules["chunks"].SEGMENT_ELEMENTS = SHORT_SEGMENTS  # as conftest.py has it for the real module
    torch.manual_seed(0)
    profile = settings.get_current_profile_name()
    settings.load_profile("first-failure")
    try:
        module = importlib.import_module(f"tests.layers.{test_module}")
        getattr(module, test)(*(functions.get(a, a) if isinstance(a, str) else a for a in arguments))
    except Exception:
        return True
    finally:
        settings.load_profile(profile)
    return False
