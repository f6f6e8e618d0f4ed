"""Data-parallel training on a CPU: further processes with a share of each batch, joined by gloo on the loopback.

Process 0 is the worker itself. It tells the others, before each step, to make one too, or to end.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as distributed

from hybrid_ops.engines.protocol import PARENT
from hybrid_ops.engines.training_bench.plan import Plan, Settings
from hybrid_ops.engines.training_bench.trainer import Step, Trainer

PROGRAM = Path(__file__).with_name("rank.py")
RANK = "HYBRID_OPS_TRAINING_RANK"
"""The variable with what a further process needs, as JSON."""
END, STEP = 0, 1
TIMEOUT = datetime.timedelta(minutes=10)


def join(store: str, rank: int, processes: int) -> None:
    """Join the group whose processes find each other by the file `store`."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    found = distributed.FileStore(store, processes)
    distributed.init_process_group("gloo", store=found, rank=rank, world_size=processes, timeout=TIMEOUT)


def next_order(order: int = END) -> int:
    """Process 0 gives an order; the others, whatever they pass, return it."""
    message = torch.tensor([order])
    distributed.broadcast(message, src=0)
    return int(message[0])


class Processes:
    """A training loop over several processes, as process 0 sees it. `close` ends the others."""

    def __init__(self, folder: Path, plan: Plan, settings: Settings) -> None:
        store = str(Path(tempfile.mkdtemp(prefix="ranks-"), "store"))
        told = {"folder": str(folder), "plan": dataclasses.asdict(plan), "store": store}
        self.others = [
            subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM)],
                env={
                    **os.environ,
                    PARENT: str(os.getpid()),
                    RANK: json.dumps({**told, "rank": rank, "settings": dataclasses.asdict(settings)}),
                },
            )
            for rank in range(1, settings.processes)
        ]
        try:
            join(store, 0, settings.processes)
            self.trainer = Trainer(folder, plan, settings)
        except BaseException:
            self.kill()
            raise
        step = self.trainer.step
        self.trainer.step = lambda: _after_order(step)  # type: ignore[method-assign]

    def close(self) -> None:
        """End the others: ask, then insist."""
        try:
            next_order(END)
            for other in self.others:
                other.wait(timeout=10)
        except (RuntimeError, subprocess.TimeoutExpired):
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        for other in self.others:
            other.kill()
            other.wait()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _after_order(step: object) -> Step:
    next_order(STEP)
    assert callable(step)
    return step()
