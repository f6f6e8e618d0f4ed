"""The peers' own code: whether it is installed, asked without importing anything, and how to reach it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any


def package_file(package: str, *parts: str) -> Path | None:
    """The path of a file inside an installed package, or None where there is no such package or file."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0], *parts)
    return path if path.exists() else None


def has_package(package: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def can_compile() -> bool:
    """Whether torch.compile can make kernels here: with Triton, or with a C++ compiler and Python's headers."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return has_triton() or (shutil.which(os.environ.get("CXX", "g++")) is not None and headers.exists())


def has_transformers(model: str, function: str) -> bool:
    """Whether transformers is installed and has `function` in the modelling file of `model`."""
    path = package_file("transformers", "models", model, f"modeling_{model}.py")
    return path is not None and f"\ndef {function}(" in path.read_text(encoding="utf-8")


def transformers_function(model: str, function: str) -> Callable[..., Any]:
    """The PyTorch function itself: the decorated one hands over to a kernel package where one is installed."""
    decorated = getattr(importlib.import_module(f"transformers.models.{model}.modeling_{model}"), function)
    return getattr(decorated, "__wrapped__", decorated)


def has_fla_triton(operation: str) -> bool:
    """Whether flash-linear-attention's Triton kernels are installed, and Triton with them."""
    return package_file("fla", "ops", operation, "chunk.py") is not None and has_triton()


def has_triton() -> bool:
    return has_package("triton")


def has_fla_naive(operation: str) -> bool:
    """Whether flash-linear-attention's naive forms are installed, which need einops."""
    return package_file("fla", "ops", operation, "naive.py") is not None and package_file("einops") is not None


@functools.cache
def fla_naive_module(operation: str) -> Any:
    """flash-linear-attention's naive forms, by file path: importing the package needs Triton."""
    path = package_file("fla", "ops", operation, "naive.py")
    assert path is not None, "asked for without has_fla_naive"
    specification = importlib.util.spec_from_file_location(f"fla_naive_{operation}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def has_vllm_kernels() -> bool:
    """Whether a CPU build of vLLM is installed. A CUDA build has a library of one of these names, but not of AVX2."""
    return vllm_library() is not None and package_file("vllm", "_C_AVX2.abi3.so") is not None


@functools.cache
def vllm_kernels() -> Any:
    """vLLM's CPU kernels, without importing vLLM.

    Raises OSError where the library does not load, for example beside another torch than it was built for.
    """
    import torch

    torch.ops.load_library(str(vllm_library()))
    return torch.ops._C


def vllm_library() -> Path | None:
    """The library that vLLM's platform code would choose on this x86 processor, without asking torch."""
    flags = cpu_flags()
    if not {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= flags:
        return package_file("vllm", "_C_AVX2.abi3.so")
    return package_file("vllm", "_C.abi3.so" if "avx512_bf16" in flags else "_C_AVX512.abi3.so")


@functools.cache
def cpu_flags() -> frozenset[str]:
    """What this machine's processor can do, in Linux's words; nothing where Linux does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def installed_versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
