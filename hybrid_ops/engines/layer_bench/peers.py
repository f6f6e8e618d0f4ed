"""The peers' own code, where it is installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any


def import_or_none(name: str) -> Any:
    """A module, or None where it, or something that it needs, is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The PyTorch function itself: the decorated one hands over to a kernel package where one is installed."""
    return getattr(function, "__wrapped__", function)


@functools.cache
def fla_naive_module(name: str) -> Any:
    """flash-linear-attention's naive forms, by file path: importing the package needs Triton."""
    found = importlib.util.find_spec("fla")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "ops" / name / "naive.py"
    specification = importlib.util.spec_from_file_location(f"fla_naive_{name}", path)
    if specification is None or specification.loader is None:
        return None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@functools.cache
def vllm_kernels() -> Any:
    """vLLM's CPU kernels, from the library that its platform code would choose, without importing vLLM; or None."""
    import torch

    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return None
    root = Path(found.submodule_search_locations[0])
    if not torch.cpu._is_avx512_supported():
        library = root / "_C_AVX2.abi3.so"
    else:
        library = root / ("_C.abi3.so" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512.abi3.so")
    if not library.exists():
        return None
    torch.ops.load_library(str(library))
    kernels = torch.ops._C
    return kernels if hasattr(kernels, "mamba_chunk_scan_fwd_cpu") else None
