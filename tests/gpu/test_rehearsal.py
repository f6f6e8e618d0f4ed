"""Everything that a GPU machine is asked for, from end to end, on a stub of a CUDA engine and a stub of NVML.

What it covers: options, devices, plans of memory, launches, stages, baselines, arms, verdicts, reports and the page of
ticks. What it cannot show is a time, a kernel or a byte of a real device.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.nvml_stub import StubCards
from tests.gpu.rehearsal import Rehearsal

PACE = {"output_throughput", "decode_throughput", "median_itl_ms", "median_tpot_ms", "median_step_ms"}


@pytest.fixture(scope="module")
def stub_cards(stub_library: Path, tmp_path_factory: pytest.TempPathFactory) -> StubCards:
    """One idle H100."""
    cards = StubCards(stub_library, tmp_path_factory.mktemp("cards") / "cards")
    cards.add("GPU-1")
    return cards


@pytest.fixture(scope="module")
def proven(stub_cards: StubCards, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rehearsal, str, int]:
    """A project after `ci/gpu`, with what that printed and its status."""
    rehearsal = Rehearsal(tmp_path_factory.mktemp("proven"), stub_cards)
    rehearsal.add_model("stub", noise=0.003)
    done = rehearsal.prove("--steps", "record,compare,noise,injection,equal-arms")
    return rehearsal, done.stdout + done.stderr, done.returncode


def test_the_page_has_a_tick_for_every_point(proven: tuple[Rehearsal, str, int]) -> None:
    _, printed, status = proven
    page = [line for line in printed.splitlines() if line.startswith(("✓", "✗"))]
    assert (status, [line for line in page if line.startswith("✗")]) == (0, []), printed
    assert page == [
        "✓ every model runs",
        "✓ engines run on the GPU that they were given",
        "✓ engines compile and capture CUDA graphs",
        "✓ the size of each cache is fixed",
        "✓ weights, activations and cache are told apart",
        "✓ baselines are recorded",
        "✓ a second run agrees with them",
        "✓ an arm compared with itself is not slower, and the noise is kept",
        "✓ 5% injected into each step is called slower in every pace cell",
        "✓ what is exact is the same with the injection",
        "✓ an arm that does not differ is refused",
    ]


def test_baselines_lie_with_the_device_class_and_exact_ones_with_the_platform(
    proven: tuple[Rehearsal, str, int],
) -> None:
    rehearsal, _, _ = proven
    written = {path.parent.name: path.read_text() for path in (rehearsal.root / "perf_baselines").glob("*/stub.yaml")}
    assert written.keys() == {"any", "cuda", "nvidia-h100-80gb-hbm3"}
    own = written["nvidia-h100-80gb-hbm3"]
    for name in ("output_throughput", "kv_cache_blocks", "max_concurrency@100", "compile_ms", "graph_capture_ms",
                 "weight_memory_bytes", "activation_memory_bytes", "cache_memory_bytes", "leading_tokens"):  # fmt: skip
        assert f" {name}:" in own, name
    assert "output_hash" not in own, "compiled kernels choose their tiles by timing"
    assert " kv_cache_page_bytes:" in written["cuda"] and " output_tokens:" in written["any"]


def test_a_comparison_on_the_gpu_is_live_and_halves_the_memory(proven: tuple[Rehearsal, str, int]) -> None:
    rehearsal, _, _ = proven
    done = rehearsal.pytest("--perf-suite=quick", "--perf-ab", "--perf-arm-b=arg.step_ms=4.0")
    assert done.returncode == 1, done.stdout
    document = rehearsal.results()
    assert {pair["mode"] for pair in document["launches"]} == {"live"}
    for arm in document["launches"][0]["arms"]:
        assert arm["arguments"]["gpu_memory_utilization"] == 0.45
        assert arm["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    slower = {cell["metric"] for cell in document["cells"] if cell["verdict"] == "slower"}
    assert slower >= PACE


def test_an_update_keeps_what_is_the_same_and_a_change_is_seen(proven: tuple[Rehearsal, str, int]) -> None:
    rehearsal, _, _ = proven
    done = rehearsal.pytest("--perf-set=arg.step_ms=4.0", "--perf-require-gpu", "-k", "stub/brief")
    assert done.returncode == 0, "another definition has no baseline"
    assert {cell["verdict"] for cell in rehearsal.cells().values()} <= {"missing-baseline", "pass"}
    done = rehearsal.pytest("--update-baselines", "-k", "stub/brief-output_throughput")
    assert done.returncode == 0, done.stdout
    assert [one["metric"] for one in rehearsal.results()["update"]["written"]] == ["output_throughput"]


def test_a_gate_that_sees_nothing_is_a_cross(stub_cards: StubCards, tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, stub_cards)
    rehearsal.add_model("blind", noise=0.003, ignores_injection=True)
    done = rehearsal.prove("--steps", "injection")
    assert done.returncode == 1
    [cross] = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert "is called slower in every pace cell: 0 of 5 pace cells are slower" in cross
    assert "✓ what is exact is the same with the injection" in done.stdout


def test_an_engine_that_does_not_start_is_a_cross_and_not_a_caught_injection(
    stub_cards: StubCards, tmp_path: Path
) -> None:
    rehearsal = Rehearsal(tmp_path, stub_cards)
    rehearsal.add_model("broken", fail={"on": "load", "how": "raise", "message": "no such kernel"})
    done = rehearsal.prove("--steps", "injection,compare")
    assert done.returncode == 1
    assert not [line for line in done.stdout.splitlines() if line.startswith("✓")]


def test_without_a_gpu_every_point_is_a_cross(stub_library: Path, tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path / "project", StubCards(stub_library, tmp_path / "cards"))
    rehearsal.add_model("stub")
    done = rehearsal.prove("--steps", "compare")
    assert done.returncode == 1
    assert [line[0] for line in done.stdout.splitlines() if line.startswith(("✓", "✗"))] == ["✗"]


def test_a_model_that_does_not_fit_is_skipped_with_both_numbers(stub_library: Path, tmp_path: Path) -> None:
    cards = StubCards(stub_library, tmp_path / "cards")
    cards.add("GPU-1", name="NVIDIA GeForce RTX 5080")
    rehearsal = Rehearsal(tmp_path / "project", cards)
    rehearsal.add_model("large", "nemotron-h-8b")
    rehearsal.add_model("small")
    done = rehearsal.pytest(
        "--perf-launches=1", "--perf-require-gpu", "-rs", "-k", "(large or small) and brief-output_tokens"
    )
    assert done.returncode == 0, done.stdout
    assert "large needs " in done.stdout and "GB of the 16.0 GB that the device has" in done.stdout
    assert rehearsal.cells().keys() == {"small/brief-output_tokens"}


def test_a_stage_has_a_deadline_of_its_own(stub_cards: StubCards, tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, stub_cards)
    rehearsal.add_model("stuck", fail={"on": "compile", "how": "hang"})
    done = rehearsal.pytest("--perf-launches=1", "--perf-stage-deadline=compile=1s", "-k", "stuck/brief-output_tokens")
    assert done.returncode == 1
    [cell] = rehearsal.cells().values()
    assert cell["reason"] == "no answer to 'load' (stage 'compile') within 1 s; killed"


def test_launches_that_choose_other_kernels_agree_in_tokens_and_say_what_was_chosen(
    stub_cards: StubCards, tmp_path: Path
) -> None:
    rehearsal = Rehearsal(tmp_path, stub_cards)
    rehearsal.add_model("tuned", other_kernels=[2])
    chosen = ["-k", "tuned/brief-leading_tokens or tuned/brief-output_throughput or tuned/brief-mbu"]
    done = rehearsal.pytest("--update-baselines", *chosen)
    assert done.returncode == 0, done.stdout
    cells = rehearsal.cells()
    assert cells["tuned/brief-leading_tokens"]["recorded"]
    launches = [launch["cases"]["tuned/brief"] for launch in rehearsal.results()["launches"]]
    assert [launch["notes"] for launch in launches[:2]] == [
        ["the autotuner chose BLOCK_SIZE_M: 32 for a scan (64, 128)"],
        ["the autotuner chose BLOCK_SIZE_M: 64 for a scan (64, 128)"],
    ]
    assert len({launch["iterations"][0]["output_hash"] for launch in launches}) == 2
    assert all("output_hash" not in launch["values"] for launch in launches)
    again = rehearsal.pytest("--perf-launches=1", *chosen)
    assert again.returncode == 0, again.stdout
    assert rehearsal.cells()["tuned/brief-leading_tokens"]["verdict"] == "pass"
