"""The no-op engine, which answers at once with made-up times. For tests of the suite itself."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hybrid_ops.engines.vllm_offline import VllmOffline


class Noop(VllmOffline):
    """It takes vLLM's arguments, so that it can stand for vLLM's engine in any test, and runs no server."""

    name: ClassVar[str] = "noop"
    worker: ClassVar[Path] = Path(__file__).with_name("noop_worker.py")
    server: ClassVar[str | None] = None
    uses_energy: ClassVar[bool] = False
