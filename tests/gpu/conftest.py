"""Cards that a stub of NVML shows to this process and to all that it starts."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from hybrid_ops.engines.devices import gpus
from tests.gpu.nvml_stub import NoCompiler, StubCards, build_stub
from tests.plugin.suite import Suite


@pytest.fixture(scope="session")
def stub_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stub as a library. Fails without a C compiler: a rehearsal that is skipped shows nothing."""
    try:
        return build_stub(tmp_path_factory.mktemp("nvml"))
    except NoCompiler as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def cards(stub_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubCards]:
    """No cards yet. nvidia-ml-py calls the stub until the test ends, here and in every process started from here."""
    stub = StubCards(stub_library, tmp_path / "cards")
    for name, value in stub.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    # The loader read LD_LIBRARY_PATH when this process began, so nvidia-ml-py is given the library that it would load.
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(stub_library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    gpus.cache_clear()
    yield stub
    gpus.cache_clear()


@pytest.fixture
def suite(pytester: pytest.Pytester, cards: StubCards) -> Suite:
    """The no-op engine on the cards, with a GPU model of its own."""
    made = Suite(pytester)
    made.add_model("big", platforms=["cuda"])
    return made
