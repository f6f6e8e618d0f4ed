"""Mutants: copies of the layers with one planted error, to prove that the checks would notice."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import hybrid_ops.layers

PACKAGE = "hybrid_ops.layers"
FILES = (
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
)


@contextmanager
def mutated(file: str, old: str, new: str) -> Iterator[dict[str, ModuleType]]:
    """Fresh copies of all layer modules, one of them with `old` replaced by `new`; the real ones return afterwards.

    Raises:
        ValueError: `old` does not occur exactly once in the file, so that the mutant would not be what its row says.
    """
    source = Path(hybrid_ops.layers.__file__).with_name(f"{file}.py").read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise ValueError(f"{file}: {old!r} occurs {source.count(old)} times, not once")
    names = [f"{PACKAGE}.{name}" for name in FILES]
    kept = {name: sys.modules.pop(name, None) for name in names}
    attributes = dict(vars(hybrid_ops.layers))
    try:
        mutant = ModuleType(f"{PACKAGE}.{file}")
        sys.modules[mutant.__name__] = mutant
        exec(compile(source.replace(old, new), f"{file}.py (mutant)", "exec"), mutant.__dict__)
        yield {name: importlib.import_module(f"{PACKAGE}.{name}") for name in FILES}
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in kept.items() if module is not None})
        vars(hybrid_ops.layers).clear()
        vars(hybrid_ops.layers).update(attributes)
