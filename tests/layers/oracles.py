"""Where the independent implementations are found, and how their plain PyTorch or C++ form is reached."""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor


def transformers_model(name: str) -> ModuleType:
    """The modelling file of a model in transformers."""
    pytest.importorskip("transformers")
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def plain(function: Callable) -> Callable:
    """The PyTorch function itself: the decorated one hands over to a kernel package where one is installed."""
    return getattr(function, "__wrapped__", function)


def _installed(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(found.submodule_search_locations[0])


@functools.cache
def fla_naive(name: str) -> ModuleType:
    """flash-linear-attention's naive forms, by file path: importing the package needs Triton."""
    path = _installed("fla") / "ops" / name / "naive.py"
    specification = importlib.util.spec_from_file_location(f"fla_naive_{name}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@functools.cache
def vllm_kernels():
    """vLLM's CPU kernels, from the library that its platform code would choose, without importing vLLM."""
    root = _installed("vllm")
    if not torch.cpu._is_avx512_supported():
        library = root / "_C_AVX2.abi3.so"
    else:
        library = root / ("_C.abi3.so" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512.abi3.so")
    if not library.exists():
        pytest.skip("this vLLM has no CPU kernels")
    torch.ops.load_library(str(library))
    return torch.ops._C


def tied(dt: Tensor, A: Tensor, x: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Mamba-2's step [B, H] and rate [H] spread over channels and states, as the single-token peers take them."""
    head_size, state_size = x.shape[-1], B.shape[-1]
    return dt[..., None].expand(-1, -1, head_size), A[:, None, None].expand(-1, head_size, state_size)


def vllm_step(state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """vLLM's single-token SSM kernel; `state` is written in place."""
    output = torch.empty_like(x)
    vllm_kernels().selective_state_update_cpu(
        state, x, dt, A, B, C, D, None, None, False, None, None, -1, output, None, None
    )
    return output
