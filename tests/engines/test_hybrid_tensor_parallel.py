"""The suite's own model divided over two processes of a real vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.hybrid_models import VOCABULARY, WINDOW, check_answers, random_model
from tests.engines.real_engine import engine, needs_vllm, random_prompts

pytestmark = [pytest.mark.long, needs_vllm]


def test_two_processes(tmp_path: Path) -> None:
    """Heads, states and weights are divided, the one group of B and C is repeated, and the numbers stay."""
    model = random_model("hybrid", tmp_path / "model")
    prompts = random_prompts((3, WINDOW, 200), VOCABULARY)
    # vLLM binds each process to a NUMA node of its own, if it is let.
    with engine(tmp_path, VLLM_CPU_OMP_THREADS_BIND="nobind") as parallel:
        parallel.load(tmp_path / "model", dtype="float32", max_num_batched_tokens=192, tensor_parallel_size=2)
        check_answers(model, prompts, parallel.generate(prompts, tokens=4, steps_between=2))
