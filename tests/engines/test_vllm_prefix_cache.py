"""A real vLLM on the processor: its prefix cache gives the logits that an engine without one gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid_ops.engines.protocol import PROBE_PREFIX
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_offline import VllmOffline
from hybrid_ops.engines.worker import Worker
from hybrid_ops.measure.launch import load_engine
from hybrid_ops.measure.procedures import read_suites
from hybrid_ops.measure.procedures.prefix_probe import LOGIT_ERROR
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.probe import PrefixProbe

SHARED = 700


@pytest.mark.long
def test_float32_logits_are_those_of_an_engine_without_a_prefix_cache(tmp_path: Path) -> None:
    """On a model with attention and states. The suites ask the same of other models."""
    model = "nemotron-h-tiny"
    suites = read_suites()
    arguments = suites.configurations["prefix-caching-float32"].arguments
    entry = load_zoo()[model]
    first, second = suites.of_kind(PrefixProbe)["prefix-cache"].prompts(SHARED, 1024, 10)
    answers = {}
    for caching in (True, False):
        own = {**arguments, "enable_prefix_caching": caching}
        spec = EngineSpec(model, entry, "cpu", VllmOffline(), arguments=own)
        folder = tmp_path / str(caching)
        with Worker(VllmOffline.worker, folder, environment={"CUDA_VISIBLE_DEVICES": ""}) as worker:
            load_engine(worker, spec, folder)
            answers[caching] = worker.ask(PROBE_PREFIX, 60, first=first, second=second)
    assert answers[True].found > 0
    assert answers[False].found == 0
    expected = np.array(answers[False].without_cache)
    assert len(np.unique(expected)) > 900  # a vocabulary of 1024, and no constant output
    np.testing.assert_allclose(answers[True].with_cache, expected, atol=LOGIT_ERROR * np.abs(expected).max(), rtol=0)
