"""Small plans for the training worker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hybrid_ops.workloads.training import TrainingWorkload

ZOO = Path(__file__).parents[3] / "hybrid_ops" / "models" / "zoo"


def plan(**changes: Any) -> dict[str, Any]:
    """What a worker is asked: two steps of a small batch, in float32."""
    fields = {"description": "", "batch": 2, "tokens": 32, "precision": "float32", "trajectory_steps": 2, **changes}
    return TrainingWorkload.model_validate(fields).plan("cpu")


def model_folder(folder: Path, name: str, **changes: Any) -> str:
    """A folder with the configuration of a tiny model, with fields changed."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ZOO / f"{name}.json", folder / "config.json")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return str(folder)
