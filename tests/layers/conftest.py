"""Determinism for the tests of the layers."""

from collections.abc import Iterator

import pytest
import torch

from hybrid_ops.layers import chunks
from tests.layers.inputs import SHORT_SEGMENTS


@pytest.fixture(autouse=True)
def one_thread_one_seed_and_short_segments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small tensors are slower on many threads, and a failing example must fail again."""
    monkeypatch.setattr(chunks, "SEGMENT_ELEMENTS", SHORT_SEGMENTS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
