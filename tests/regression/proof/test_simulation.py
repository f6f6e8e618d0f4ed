"""The simulated runs have the noise that they say, and our judge keeps its promises on them."""

from __future__ import annotations

import runpy
import sys

import numpy as np
import pytest

from hybrid_ops.regression.proof.simulation import OURS_STORED, simulate
from hybrid_ops.regression.proof.traces import MODELS, Trace, trace


@pytest.mark.parametrize("model", MODELS[:5], ids=lambda model: model.name)
def test_launch_medians_have_the_noise_that_the_model_says(model):
    source = np.random.default_rng(2)
    medians = np.concatenate(
        [np.log(Trace.medians(trace(model, source, 0.0, launches=4, nights=1).baseline)) for _ in range(150)]
    )
    assert medians.std(axis=1, ddof=1).mean() == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("model", MODELS[:5], ids=lambda model: model.name)
def test_ours_keeps_its_promises_where_launches_vary_by_one_percent(model):
    scores = simulate(model, runs=6, rivals=())
    for score in scores.values():
        assert score.false_positives / score.unchanged <= 0.01
        assert score.misses / score.slowed <= 0.1  # 72 cells of six engines: the full proof asks for 5 %
        assert score.passed / score.slowed <= 0.05
    assert scores[OURS_STORED].launches_unchanged / scores[OURS_STORED].unchanged < 2.5


def test_the_program_prints_one_table_a_model(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["proof", "--runs", "1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hybrid_ops.regression.proof", run_name="__main__")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for model in MODELS:
        assert f"### {model.name}" in printed
    assert printed.count("| ours, A/B pairs ") == len(MODELS) + 1
    assert "seed" in printed.splitlines()[-1]
