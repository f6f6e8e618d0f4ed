"""Whole runs on the cards of the stub: real pytest processes, and the no-op engine for one that computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.regression.history.store import History
from tests.gpu.nvml_stub import NO_PERMISSION, POWER_CAP, THERMAL_SLOWDOWN, StubCards
from tests.plugin.suite import Suite, unwrapped

ON_GPU = ("--perf-device=auto", "-m", "gpu", "--perf-require-gpu", "--perf-launches=1")
EXACT, TIMED = "big/brief-output_tokens", "big/brief-output_throughput"
SECONDS = 120


def launches(suite: Suite) -> list[dict[str, Any]]:
    return suite.results()["launches"]


def test_a_run_records_its_card_and_compares_only_with_a_card_that_is_set_alike(
    suite: Suite, cards: StubCards, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards.add("GPU-aaaa")
    cards.add("GPU-bbbb")
    cards.add("GPU-cccc", name="NVIDIA L4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-c")
    recorded = suite.run(*ON_GPU, "--update-baselines")
    assert recorded.ret == 0
    recorded.stdout.fnmatch_lines(
        [
            "perf: NVIDIA H100 80GB HBM3 (nvidia-h100-80gb-hbm3), results in *",
            "perf: not used, because they are of another class: NVIDIA L4 (GPU-cccc)",
        ]
    )
    results = suite.results()
    assert (results["device"]["uuid"], results["device"]["settings"]["power_limit_w"]) == ("GPU-bbbb", 700.0)
    assert results["versions"]["nvidia-driver"] == "580.65.06" and results["versions"]["cuda-driver"] == "13.0"
    assert {launch["environment"]["CUDA_VISIBLE_DEVICES"] for launch in launches(suite)} == {"GPU-bbbb"}
    assert {path.parent.name for path in suite.baseline_files("big")} == {"any", "cuda", "nvidia-h100-80gb-hbm3"}
    text = (suite.root / "perf_baselines" / "nvidia-h100-80gb-hbm3" / "big.yaml").read_text()
    assert "power_limit_w: 700.0" in text and "ecc_mode: true" in text

    cards.set("1", clocks_event_reasons=POWER_CAP, driver_version="590.1")
    assert (
        suite.run(*ON_GPU).ret == 0
    )  # at its own limit a cap is normal, and a new driver is what one wants to compare
    assert suite.verdicts()[TIMED] == "pass"

    cards.set("1", clocks_event_reasons=0, enforced_power_limit=500_000, ecc_mode=0)
    changed = suite.run(*ON_GPU)
    assert changed.ret == 1
    unwrapped(changed).fnmatch_lines(
        ["*ecc_mode is False now, True in the baseline; power_limit_w is 500.0 now, 700.0 in the baseline*"]
    )
    assert (suite.verdicts()[EXACT], suite.verdicts()[TIMED]) == ("pass", "invalid-environment")

    assert suite.run(*ON_GPU, "--update-baselines").ret == 0
    assert suite.run(*ON_GPU).ret == 0
    assert suite.verdicts()[TIMED] == "pass"


def test_what_a_card_shows_and_does_not_show_is_told(suite: Suite, cards: StubCards) -> None:
    cards.add("GPU-aaaa", temperature=None)
    cards.refuse("0", NO_PERMISSION, "processes", "power_usage")
    run = suite.run(*ON_GPU)
    assert run.ret == 0
    unwrapped(run).fnmatch_lines(
        [
            "note: Not checked on the GPU: temperature_c (Not Supported); power_w, processes (Insufficient "
            "Permissions).",
        ]
    )
    [launch] = launches(suite)
    assert launch["conditions"]["gpu"]["mean_power_w"] is None
    cards.set("0", clocks_event_reasons=THERMAL_SLOWDOWN)
    assert suite.run(*ON_GPU).ret == 1
    assert suite.verdicts()[TIMED] == "invalid-environment"
    assert len(launches(suite)) == 2, "a launch on an unfit card is made once more"


def test_a_mig_instance_is_leased_as_a_device_of_its_own(suite: Suite, cards: StubCards) -> None:
    cards.add_instance(cards.add("GPU-aaaa"), "MIG-aaaa")
    assert suite.run(*ON_GPU).ret == 0
    assert suite.results()["device"]["class"] == "nvidia-h100-80gb-hbm3-mig-1g.10gb"
    assert launches(suite)[0]["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-aaaa"
    assert (suite.root / "leases" / "MIG-aaaa.lock").exists()


def test_a_missing_gpu_is_one_line_that_says_why(
    suite: Suite, cards: StubCards, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = suite.run("--perf-device=cuda")
    assert asked.ret == pytest.ExitCode.USAGE_ERROR
    assert asked.errlines == ["ERROR: --perf-device cuda: no GPU: NVML shows no GPU on this machine", ""]
    required = suite.run(*ON_GPU)
    assert required.ret == 1
    unwrapped(required).fnmatch_lines(
        ["*needs a GPU: NVML shows no GPU on this machine, and --perf-require-gpu was given*"]
    )
    cards.add("GPU-aaaa")
    cards.add("GPU-abbb")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    unclear = suite.run("--perf-device=cuda")
    assert unclear.ret == pytest.ExitCode.USAGE_ERROR
    assert unclear.errlines[0].startswith("ERROR: CUDA_VISIBLE_DEVICES: GPU-a begins 2 names (GPU-aaaa, GPU-abbb)")


def night(suite: Suite) -> subprocess.CompletedProcess[str]:
    options = [option for option in suite.arguments if option not in ("--perf", "--perf-device=cpu")]
    command = [str(Path(sys.executable).with_name("hybrid-perf")), "night", "--device", "cuda", "--no-serving", "--"]
    return subprocess.run(
        [*command, *options, "--perf-launches=1"], cwd=suite.root, capture_output=True, text=True, timeout=SECONDS
    )


def test_a_night_on_a_gpu_tells_what_changed_on_it(suite: Suite, cards: StubCards) -> None:
    cards.add("GPU-aaaa")
    first = night(suite)
    assert first.returncode == 0, first.stdout + first.stderr
    cards.set("system", driver_version="590.1")
    cards.set("0", persistence_mode=0)
    second = night(suite)
    assert second.returncode == 0
    assert "nvidia-driver 580.65.06 -> 590.1" in second.stdout
    assert "persistence_mode True -> False" in second.stdout
    with History(suite.root / "perf_results" / "history.sqlite") as history:
        assert {series.device for series in history.series()} == {"nvidia-h100-80gb-hbm3"}
