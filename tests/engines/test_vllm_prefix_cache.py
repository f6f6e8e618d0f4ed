"""A real vLLM on the processor: its prefix cache gives the logits that an engine without one gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid_ops.engines.spec import WORKER_MODULES, EngineSpec
from hybrid_ops.engines.worker import Worker
from hybrid_ops.measure.launch import load_engine
from hybrid_ops.measure.probes import LOGIT_ERROR
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.workload import load_suites

SHARED = 700


@pytest.mark.parametrize("model", ["gemma3-tiny", "nemotron-h-tiny"])
def test_float32_logits_are_those_of_an_engine_without_a_prefix_cache(model: str, tmp_path: Path) -> None:
    suites = load_suites()
    arguments = suites.configurations["prefix-caching-float32"].arguments
    entry = load_zoo()[model]
    first, second = suites.probes["prefix-cache"].prompts(SHARED, 1024, 10)
    answers = {}
    for caching in (True, False):
        spec = EngineSpec(model, entry, "cpu", arguments={**arguments, "enable_prefix_caching": caching})
        folder = tmp_path / str(caching)
        with Worker(WORKER_MODULES["vllm"], folder, environment={"CUDA_VISIBLE_DEVICES": ""}) as worker:
            load_engine(worker, spec, folder, 120)
            answers[caching] = worker.request("probe_prefix", 60, first=first, second=second)
    assert answers[True]["found"] > 0
    assert answers[False]["found"] == 0
    expected = np.array(answers[False]["without_cache"])
    assert len(np.unique(expected)) > 900  # a vocabulary of 1024, and no constant output
    np.testing.assert_allclose(answers[True]["with_cache"], expected, atol=LOGIT_ERROR * np.abs(expected).max(), rtol=0)
