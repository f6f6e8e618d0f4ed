"""The training worker: transformers' model in a PyTorch loop, its first steps agreed with float64, then timed.

Speaks the protocol of `hybrid_ops.engines.protocol`; `training.py` says what the suite knows of it. It needs torch and
transformers. See `training_bench` for what a step is.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import time
from pathlib import Path
from typing import Any

from hybrid_ops.engines.layer_bench.packages import installed_versions
from hybrid_ops.engines.protocol import DeviceFacts, LoadFacts, TrainingMemory, TrainingSample, serve
from hybrid_ops.engines.training_bench.plan import Plan, Settings, check_share, read_settings

PEERS = ("transformers", "flash-linear-attention", "flash-attn", "mamba-ssm", "causal-conv1d")
"""Packages whose kernels the model may run on."""
INJECT_VARIABLE = "HYBRID_OPS_INJECT"


class TrainingWorker:
    """One model, and the plan that is being trained."""

    def __init__(self) -> None:
        self.folder = Path()
        self.settings = Settings()
        self.running: Running | None = None

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        """Take the folder of the model and the settings. The model itself is built anew for each plan."""
        started = time.perf_counter()
        import torch
        import transformers

        from hybrid_ops.engines.training_bench.memory import limit_memory

        transformers.logging.set_verbosity_error()
        self._drop()
        injected = float(os.environ.get(INJECT_VARIABLE, "0"))
        self.folder = Path(model)
        self.settings = read_settings({"slow": injected, **arguments})
        limit_memory(self.settings.memory_bytes, self.settings.device)
        return LoadFacts(
            load_seconds=time.perf_counter() - started,
            model_bytes=None,
            cache=None,
            device=self._device_facts(),
            reference_kernels=[],
            versions={"torch": torch.__version__, **installed_versions(PEERS)},
            server=None,
        )

    def train(self, plan: dict[str, Any]) -> TrainingSample:
        """Time one step of a plan.

        The first call for a plan builds the model, makes the steps of the trajectory and holds them against float64,
        and reads the memory. That is also the warm-up.

        Raises ValueError for a plan that cannot be, and OutOfMemoryError with the bytes that were asked for; nothing of
        the plan is then left.
        """
        from hybrid_ops.engines.training_bench.memory import telling_the_bytes

        wanted = Plan(**plan)
        check_share(wanted, self.settings)
        done = False
        try:
            with telling_the_bytes(self.settings.device):
                if self.running is None or self.running.plan != wanted:
                    self._drop()
                    self.running = Running(self.folder, wanted, self.settings)
                sample = self.running.sample()
            done = True
        finally:
            if not done:
                self._drop()
        return sample

    def _drop(self) -> None:
        """Give back everything that the plan so far has taken."""
        from hybrid_ops.engines.training_bench.memory import give_back

        if self.running is not None:
            self.running.close()
            self.running = None
        give_back(self.settings.device)

    def _device_facts(self) -> DeviceFacts:
        import torch

        if self.settings.device == "cuda":
            properties = torch.cuda.get_device_properties(0)
            return DeviceFacts("cuda", properties.name, str(properties.uuid), properties.total_memory, threads=None)
        return DeviceFacts(self.settings.device, None, None, None, threads=torch.get_num_threads())


class Running:
    """A plan under way: its trajectory, what it takes, and its trainer."""

    def __init__(self, folder: Path, plan: Plan, settings: Settings) -> None:
        from hybrid_ops.engines.training_bench.memory import measure_memory
        from hybrid_ops.engines.training_bench.processes import Processes
        from hybrid_ops.engines.training_bench.reference import compare, reference_steps
        from hybrid_ops.engines.training_bench.trainer import Trainer
        from hybrid_ops.layers.language_model import is_known

        self.plan, self.settings = plan, settings
        self.processes = Processes(folder, plan, settings) if settings.processes > 1 else None
        self.closed = False
        try:
            self.trainer = Trainer(folder, plan, settings) if self.processes is None else self.processes.trainer
            model = self.trainer.model
            is_held = plan.reference and is_known(model.config)
            weights = {name: one.detach().clone() for name, one in model.state_dict().items()} if is_held else {}
            steps = [self.trainer.step() for _ in range(plan.steps)]
            self.trajectory = [(step.loss, step.gradient_norm) for step in steps]
            self.memory: TrainingMemory = measure_memory(self.trainer)
            self.flops = self._count_flops()
            self.agreement = None
            if is_held and all(math.isfinite(number) for step in self.trajectory for number in step):
                on_host = {name: one.cpu() for name, one in weights.items()}
                self.agreement = compare(self.trajectory, reference_steps(model.config, on_host, plan), plan)
        except BaseException:
            self.close()
            raise

    def sample(self) -> TrainingSample:
        """Make one step and tell it, beside what is known of the plan."""
        step = self.trainer.step()
        numbers = (*(number for pair in self.trajectory for number in pair), step.loss, step.gradient_norm)
        refusal = None if self.agreement is None else self.agreement.refusal
        if not all(math.isfinite(number) for number in numbers):  # JSON has no word for them
            refusal = "a loss or gradient norm is not finite"
        return TrainingSample(
            forward_seconds=step.forward_seconds,
            backward_seconds=step.backward_seconds,
            optimizer_seconds=step.optimizer_seconds,
            losses=[loss if math.isfinite(loss) else None for loss, _ in self.trajectory],
            gradient_norms=[norm if math.isfinite(norm) else None for _, norm in self.trajectory],
            loss_error=None if self.agreement is None else self.agreement.loss_error,
            gradient_norm_error=None if self.agreement is None else self.agreement.gradient_norm_error,
            refusal=refusal,
            flops=self.flops,
            memory=self.memory,
        )

    def close(self) -> None:
        if self.processes is not None and not self.closed:
            self.processes.close()
        self.closed = True

    def _count_flops(self) -> int | None:
        """FLOPs of a step of this process as torch counts them; None where compiled code hides its operators."""
        if self.settings.compile:
            return None
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.trainer.step()
        return counter.get_total_flops()


def main() -> None:
    # Now, so that the two arms of a comparison import at the same time. A failure is told by `load`, which tries again.
    with contextlib.suppress(Exception):
        importlib.import_module("torch")
        importlib.import_module("transformers")
    worker = TrainingWorker()
    serve({"load": worker.load, "train": worker.train})


if __name__ == "__main__":
    main()
