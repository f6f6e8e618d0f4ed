"""The reference layers against their peers, as ratios of one run: one testcase a goal.

The benchmark program runs once, in a process of its own, and prints its table. A goal fails when the interval of the
ratio lies wholly below it, and is inconclusive when the interval straddles it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap

from hybrid_ops.engines import layer_bench
from hybrid_ops.engines.devices import devices, lease
from hybrid_ops.engines.layer_bench.tables import GOALS

Record = dict[str, Any]
"""What the program writes: `samples_s`, seconds of each contender in each round, and `refused`, why a contender has
none; both by case."""
REPEATS = {"quick": 7}
"""Rounds of a suite's benchmark; the larger suites take more."""
MORE_REPEATS = 25
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratios:
    """A peer's time over ours, one value a round: above 1, ours is faster."""

    values: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def interval(self) -> tuple[float, float]:
        """Bootstrap interval of the median."""
        found = bootstrap((self.values,), np.median, confidence_level=CONFIDENCE, method="percentile", rng=0)
        return float(found.confidence_interval.low), float(found.confidence_interval.high)


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """All goals' cases, from a fresh process."""
    output = tmp_path_factory.mktemp("layers") / "samples.json"
    platform = "cuda" if devices("cuda") and request.config.option.perf_device != "cpu" else "cpu"
    repeats = REPEATS.get(request.config.option.perf_suite, MORE_REPEATS)
    command = [sys.executable, str(Path(layer_bench.__file__).parent), "--json", str(output), "--repeats", str(repeats)]
    command += ["--no-memory", "--device", platform, "--cases", *dict.fromkeys(case for case, _ in GOALS)]
    with lease(devices(platform)) as device:
        variables = {**os.environ, **{name: value or "" for name, value in device.environment.items()}}
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode != 0:
        pytest.fail(f"the benchmark failed:\n{done.stderr}", pytrace=False)
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + done.stdout)
    return json.loads(output.read_text(encoding="utf-8"))


@pytest.mark.perf
@pytest.mark.parametrize(("case", "peer"), GOALS, ids=lambda value: value.replace(" ", "-"))
def test_layer(record: Record, record_property: Callable[[str, object], None], case: str, peer: str) -> None:
    samples = record["samples_s"]
    if peer in record["refused"][case]:
        pytest.fail(f"{peer} has no time: {record['refused'][case][peer]}", pytrace=False)
    if peer not in samples[case]:
        pytest.skip(f"{peer} does not run here")
    goal = GOALS[case, peer]
    ratios = Ratios(np.array(samples[case][peer]) / np.array(samples[case]["ours"]))
    low, high = ratios.interval
    record_property("ratio", ratios.median)
    record_property("interval", json.dumps([low, high]))
    record_property("goal", goal)
    numbers = f"{peer} takes {ratios.median:.2f} times our time ({low:.2f} to {high:.2f}); the goal is {goal:.2f}"
    assert high >= goal, f"slower: {numbers}"
    if low < goal:
        pytest.skip(f"inconclusive: {numbers}")
