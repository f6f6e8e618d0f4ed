"""A launch pair on the no-op engine: arms that follow each other are measured as plain launches are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.measure import launch as launch_module
from hybrid_ops.measure import pair as pair_module
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.conditions import Limits
from hybrid_ops.measure.launch import MOST_ROUNDS, Launch, Terms, run_launch
from hybrid_ops.measure.metrics import OUTPUT_THROUGHPUT
from hybrid_ops.measure.pair import LIVE_ROUNDS, Arm, Pair, run_pair
from hybrid_ops.measure.procedures.generation import Generation
from hybrid_ops.measure.records import PairRecord
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.regression.cells import Cell, ratios_of
from hybrid_ops.workloads.batch import ClosedBatch

SPEC = EngineSpec("llama-tiny", load_zoo()["llama-tiny"], "cpu", Noop())
CASE = Case(SPEC, "brief", ClosedBatch(description="a few", prompt_tokens=8, generation_tokens=4), Generation())
ANY = Limits(foreign_cpu=1.0, memory_available=0.0, memory_pressure=100.0)
"""What this machine does beside the test is no matter here."""
IMPOSSIBLE = replace(ANY, memory_available=2.0)
PEAKS = DevicePeaks("a device", flops={"bfloat16": 1e12}, bandwidth=1e11, memory=None, source="made up")
UNSETTLED_SECONDS = 20.0
"""Longer than the most rounds of the no-op engine take, so that their number is known."""


def make_pair(folder: Path, terms: Terms, **arguments_of_b: Any) -> PairRecord:
    arms = (Arm("a"), Arm("b", arguments=arguments_of_b))
    return run_pair(Pair(SPEC, [CASE], 1, cpu(), folder, arms), terms)


@pytest.fixture
def alternating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arms that follow each other, as on a GPU."""
    monkeypatch.setattr(Noop, "shared_platforms", frozenset())


@pytest.mark.usefixtures("alternating")
def test_alternating_arms_have_the_rounds_limits_and_peaks_of_a_plain_launch(tmp_path: Path) -> None:
    terms = Terms(limits=IMPOSSIBLE, peaks=PEAKS, least_seconds=UNSETTLED_SECONDS)
    plain = run_launch(Launch(SPEC, [CASE], 1, cpu(), tmp_path / "plain"), terms)
    record = make_pair(tmp_path / "pair", terms, step_ms=4.0)
    assert record.mode == "alternate"
    for launch in (plain, *record.arms):
        seen = launch.cases[CASE.id]
        assert (len(seen.warmup), len(seen.iterations)) == (2, MOST_ROUNDS)
        assert {"mfu", "mbu", "roofline_share"} <= seen.values.keys()
        assert launch.conditions["seconds"] > 0
        [violation] = launch.violations
        assert violation.startswith("only ") and violation.endswith("of the memory was available (limit 200%)")
    assert record.unfit


@pytest.mark.usefixtures("alternating")
def test_alternating_arms_are_compared_by_their_values(tmp_path: Path) -> None:
    record = make_pair(tmp_path, Terms(limits=ANY), step_ms=4.0)
    ratios = record.log_ratios[CASE.id]
    assert ratios["output_throughput"] == pytest.approx(-0.693, abs=1e-3)
    assert "output_tokens" not in ratios, "an exact metric has no ratio"
    assert not record.unfit


def test_arms_that_live_at_once_have_more_rounds_and_no_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_module, "LIVE_SECONDS", 0.0)
    record = make_pair(tmp_path, Terms(limits=IMPOSSIBLE))
    assert record.mode == "live"
    assert [len(arm.cases[CASE.id].iterations) for arm in record.arms] == [LIVE_ROUNDS, LIVE_ROUNDS]
    assert not record.unfit, "what the machine does happens to both arms"


def test_arms_that_live_at_once_on_a_gpu_are_held_against_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_module, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(launch_module, "LENIENT_PLATFORMS", ())
    record = make_pair(tmp_path, Terms(limits=IMPOSSIBLE))
    assert record.mode == "live"
    assert record.unfit
    cell = Cell(CASE, OUTPUT_THROUGHPUT)
    assert ratios_of(cell, {SPEC.launch_name: [record]}) == [], "an unfit pair is no evidence"
    record.arms[0].violations = record.arms[1].violations = []
    assert len(ratios_of(cell, {SPEC.launch_name: [record]})) == 1


@pytest.mark.parametrize("mode", ["live", "alternate"])
@pytest.mark.parametrize("on", ["load", "generate"])
def test_a_failure_of_one_arm_leaves_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, on: str
) -> None:
    monkeypatch.setattr(Noop, "shared_platforms", frozenset({"cpu"} if mode == "live" else ()))
    record = make_pair(tmp_path, Terms(), fail={"on": on, "how": "raise", "message": "no such kernel"})
    assert record.mode == mode
    first, second = record.arms
    own = second.error if on == "load" else second.cases[CASE.id].error
    assert own == "RuntimeError: no such kernel"
    if mode == "live":
        assert first.cases[CASE.id].error == "arm b: RuntimeError: no such kernel"
    else:
        assert first.cases[CASE.id].error is None, "arm a was measured by itself"
    assert record.failed
    assert record.log_ratios[CASE.id] == {}
