"""The reference layers and their peers, in one process that times them round by round (`layers_worker.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.engine import Engine
from hybrid_ops.engines.protocol import TIME_KERNEL, TIME_LAYER
from hybrid_ops.engines.spec import EngineSpec


class Layers(Engine):
    """Its model is a shape: the sizes of the tensors that all contenders are given."""

    name: ClassVar[str] = "layers"
    worker: ClassVar[Path] = Path(__file__).with_name("layers_worker.py")
    operations: ClassVar[frozenset[str]] = frozenset({TIME_LAYER.name, TIME_KERNEL.name})

    def arguments(self, spec: EngineSpec) -> dict[str, Any]:
        return {"device": spec.platform, **super().arguments(spec)}
