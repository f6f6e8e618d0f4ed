"""A stub of a CUDA engine, as a pytest plugin: the no-op engine, which says that it runs on the GPU that it is given.

For rehearsals on machines without a GPU, with the stub of NVML. It computes nothing, and its name says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hybrid_ops.engines import registry
from hybrid_ops.engines.noop import Noop


class CudaStub(Noop):
    """It takes vLLM's arguments: its memory is planned, its cache is fixed and its arms live at once as vLLM's do."""

    name: ClassVar[str] = "cuda-stub"
    worker: ClassVar[Path] = Path(__file__).with_name("cuda_stub_worker.py")


registry.register(CudaStub())
