"""Training with PyTorch and transformers, in one process that makes step by step (`training_worker.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.engine import Engine
from hybrid_ops.engines.protocol import TRAIN
from hybrid_ops.engines.spec import EngineSpec

EXPERTS = {"cpu": "eager", "cuda": "grouped_mm"}
"""How transformers computes a mixture of experts, unless an argument says otherwise."""


class Training(Engine):
    """Arguments are `compile`, `gradient_checkpointing`, `attention`, `experts`, `processes`, `memory_bytes` and `slow`
    (`training_bench/plan.py`). What is trained, and in which precision, is the workload's."""

    name: ClassVar[str] = "training"
    worker: ClassVar[Path] = Path(__file__).with_name("training_worker.py")
    operations: ClassVar[frozenset[str]] = frozenset({TRAIN.name})

    def arguments(self, spec: EngineSpec) -> dict[str, Any]:
        fitting = {"device": spec.platform, "experts": EXPERTS.get(spec.platform, "eager")}
        return {**fitting, **self._own(spec), **spec.sizing, **spec.arguments}

    def portable_arguments(self, spec: EngineSpec) -> dict[str, Any]:
        return {**self._own(spec), **spec.arguments}

    def _own(self, spec: EngineSpec) -> dict[str, Any]:
        """The model's. What a zoo entry gives to another engine of its own is nothing for this one."""
        return spec.entry.arguments if spec.entry.engine == self.name else {}
