"""What is asked of an engine's ranks: storages counted once, the capture watched, the autotuner's choices found."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from hybrid_ops.engines.vllm_plugins import autotuner, capture
from hybrid_ops.engines.vllm_plugins.ranks import bytes_of
from hybrid_ops.engines.vllm_probes import bytes_per_block, layer_specs


def test_bytes_that_caches_share_count_once() -> None:
    whole = torch.zeros(1000, dtype=torch.uint8)
    views = [whole[:500].view(torch.float32), [whole[500:], torch.zeros(8, dtype=torch.bfloat16)]]
    assert bytes_of(views) == 1000 + 16
    assert bytes_of([None, []]) == 0


def test_the_last_capture_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "captured", capture.Captured())

    class Runner:
        @capture.watched
        def capture_model(self, taken: int, *, profile_only: bool = False) -> int:
            return taken

    assert capture.captured.seconds is None
    assert Runner().capture_model(5, profile_only=True) == 5
    assert Runner().capture_model(70) == 70
    assert capture.captured.bytes == 70
    assert capture.captured.seconds is not None and capture.captured.seconds >= 0


def triton_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that stands for Triton's autotuner."""
    module = ModuleType("triton.runtime.autotuner")

    class Autotuner:
        def __init__(self, name: str, cache: dict[Any, Any]) -> None:
            self.base_fn = SimpleNamespace(__name__=name)
            self.cache = cache

    class Heuristics:
        def __init__(self, fn: Any) -> None:
            self.fn = fn

    Autotuner.__module__ = Heuristics.__module__ = "triton.runtime.autotuner"
    module.Autotuner, module.Heuristics = Autotuner, Heuristics  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton.runtime.autotuner", module)
    return module


def test_what_the_autotuner_chose_is_found_below_other_decorators(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = triton_with(monkeypatch)
    kernels = ModuleType("some_kernels")
    kernels.scan = triton.Heuristics(triton.Autotuner("_scan", {(64, 128): "BLOCK: 32"}))  # type: ignore[attr-defined]
    kernels.alias = kernels.scan  # type: ignore[attr-defined]
    kernels.unused = triton.Autotuner("_unused", {})  # type: ignore[attr-defined]
    kernels.other = SimpleNamespace(fn=triton.Autotuner("_hidden", {1: "x"}))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_kernels", kernels)
    assert autotuner.choices() == {"_scan (64, 128)": "BLOCK: 32"}


def test_without_triton_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "triton.runtime.autotuner", raising=False)
    assert autotuner.choices() == {}


def layout(*tensors: tuple[int, int]) -> Any:
    parts = [SimpleNamespace(size=size, block_stride=stride) for size, stride in tensors]
    return SimpleNamespace(num_blocks=10, kv_cache_tensors=parts)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ([(400, 0), (400, 0), (400, 0)], 120),  # up to 0.28: each of three layer slots has its own
        ([(1200, 120), (1200, 120)], 120),  # packed there, or since 0.29: each part tells the size of the whole
        ([(1200, 40), (1200, 40), (1200, 40)], 120),  # layer after layer
    ],
    ids=["a slot each", "packed", "whole"],
)
def test_bytes_of_a_block_are_right_for_every_release(tensors: list[tuple[int, int]], expected: int) -> None:
    assert bytes_per_block(layout(*tensors)) == expected


def test_specs_of_layers_of_unequal_width_are_told_apart() -> None:
    group = SimpleNamespace(kv_cache_specs={"a": "narrow", "b": "wide"})
    assert layer_specs(group) == ["narrow", "wide"]
    alone = SimpleNamespace(page_size_bytes=1)
    assert layer_specs(alone) == [alone]
