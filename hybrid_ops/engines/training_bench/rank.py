"""A further process of data-parallel training: makes a step whenever process 0 says so. Run by path."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hybrid_ops.engines.protocol import die_with_parent
from hybrid_ops.engines.training_bench.plan import Plan, Settings
from hybrid_ops.engines.training_bench.processes import RANK, STEP, join, next_order
from hybrid_ops.engines.training_bench.trainer import Trainer


def main() -> None:
    die_with_parent()
    told = json.loads(os.environ[RANK])
    settings = Settings(**told["settings"])
    join(told["store"], told["rank"], settings.processes)
    trainer = Trainer(Path(told["folder"]), Plan(**told["plan"]), settings, told["rank"])
    while next_order() == STEP:
        trainer.step()


if __name__ == "__main__":
    main()
