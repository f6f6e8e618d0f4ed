"""Real engines for tests: a `logits_worker` process, and models whose weights both sides load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hybrid_ops.engines.vllm_plugins.seeded_weights import fill_parameter
from hybrid_ops.engines.worker import Worker

DEADLINE_SECONDS = 120.0
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM")
"""Finds it without importing it, which takes five seconds."""


class Engine:
    """One worker process in which engines are loaded one after another."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.loaded: dict[str, Any] | None = None

    def load(self, model: Path, **arguments: Any) -> list[str]:
        """Start an engine; returns the operations that were replaced in it. Raises WorkerError."""
        self.loaded = None
        request = {"model": str(model), "arguments": arguments}
        replaced = self.worker.request("load", DEADLINE_SECONDS, **request)
        self.loaded = request
        return replaced

    def ensure(self, model: Path, **arguments: Any) -> None:
        """Start an engine unless this very one is running."""
        if self.loaded != {"model": str(model), "arguments": arguments}:
            self.load(model, **arguments)

    def generate(self, prompts: list[list[int]], tokens: int, steps_between: int = 0) -> list[dict[str, Any]]:
        """What `LogitsWorker.generate` returns."""
        return self.worker.request(
            "generate", DEADLINE_SECONDS, prompts=prompts, tokens=tokens, steps_between=steps_between
        )

    def forget(self) -> None:
        self.worker.request("forget", DEADLINE_SECONDS)

    def limit_step(self, tokens: int) -> None:
        """Schedule at most so many tokens a step from now on."""
        self.worker.request("limit_step", DEADLINE_SECONDS, tokens=tokens)

    def break_history(self, message: str) -> None:
        """Have the engine's Mamba-2 layers raise an error."""
        self.loaded = None  # it is of no use to others
        self.worker.request("break_history", DEADLINE_SECONDS, message=message)


@contextmanager
def engine(folder: Path, **environment: str) -> Iterator[Engine]:
    """A worker process with one thread."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    with Worker(Path(__file__).with_name("logits_worker.py"), folder, environment=variables) as worker:
        yield Engine(worker)


def fill(model: torch.nn.Module) -> None:
    """Weights of a trained model's size, drawn from the parameters' names."""
    for name, parameter in model.named_parameters():
        fill_parameter(name, type(model.get_submodule(name.rpartition(".")[0])).__name__, parameter, seed=name)


def random_prompts(lengths: tuple[int, ...], vocabulary: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths]


def log_probabilities(answer: dict[str, Any]) -> Tensor:
    """[tokens, vocabulary] of one answer."""
    return torch.tensor(answer["log_probabilities"])
