"""Shards from GPUs of a stub, merged where there is no GPU at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.gpu.nvml_stub import StubCards
from tests.plugin.suite import Suite

ON_GPU = ("--perf-device=auto", "-m", "gpu", "--perf-require-gpu")
PROGRAM = Path(sys.executable).with_name("hybrid-perf")


def merge(suite: Suite, cards: StubCards, *words: str) -> subprocess.CompletedProcess[str]:
    """`hybrid-perf merge` of the two shards, by a process that sees no card."""
    environment = {name: value for name, value in os.environ.items() if name not in cards.environment}
    command = [str(PROGRAM), "merge", "perf_results/shard-1", "perf_results/shard-2", *words]
    return subprocess.run(command, cwd=suite.root, env=environment, capture_output=True, text=True, timeout=120)


def results(suite: Suite, name: str) -> dict[str, Any]:
    return json.loads((suite.root / "perf_results" / name / "results.json").read_text())


def test_a_machine_without_a_gpu_merges_an_update_of_gpus(suite: Suite, cards: StubCards) -> None:
    suite.add_model("other", platforms=["cuda"], reference="big", arguments={"step_ms": 3.0})
    suite.add_model("third", platforms=["cuda"], arguments={"step_ms": 4.0})
    cards.add("GPU-aaaa")
    whole = suite.run(*ON_GPU, "--update-baselines", "--perf-baselines=at-once", "--perf-run-id=whole")
    assert whole.ret == 0
    for number in (1, 2):
        options = [f"--perf-shard={number}/2", f"--perf-run-id=shard-{number}", f"--perf-baselines=own-{number}"]
        assert suite.run(*ON_GPU, "--update-baselines", *options).ret == 0
    done = merge(suite, cards, "--update-baselines", "--baselines", "joined", "-o", "elsewhere/whole")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((suite.root / "elsewhere" / "whole" / "results.json").read_text())
    assert [cell["cell"] for cell in document["cells"]] == [cell["cell"] for cell in results(suite, "whole")["cells"]]
    assert document["device"] == results(suite, "whole")["device"]
    assert document["cost"]["gpu_seconds"] > 0
    files = {path.relative_to(suite.root / "at-once"): path for path in (suite.root / "at-once").glob("*/*.yaml")}
    assert {path.parent.name for path in files} == {"any", "cuda", "nvidia-h100-80gb-hbm3"}
    for name, path in files.items():
        assert (suite.root / "joined" / name).read_text() == path.read_text(), name


def test_an_update_of_cards_that_are_set_otherwise_is_refused(suite: Suite, cards: StubCards) -> None:
    suite.add_model("other", platforms=["cuda"])
    cards.add("GPU-aaaa")
    for number in (1, 2):
        options = [f"--perf-shard={number}/2", f"--perf-run-id=shard-{number}", f"--perf-baselines=own-{number}"]
        assert suite.run(*ON_GPU, "--update-baselines", *options).ret == 0
        cards.set("0", enforced_power_limit=500_000)
    done = merge(suite, cards, "--update-baselines")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "hybrid-perf: error: perf_results/shard-2: setting power_limit_w: 500.0, and 700.0 in perf_results/shard-1; "
        "the shards of one run are alike in this\n"
    )
