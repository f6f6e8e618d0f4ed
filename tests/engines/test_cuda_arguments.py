"""How vLLM is launched on CUDA, as data: its defaults, its fixed cache, what does not fit, and two on one device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.engine import CacheSize
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_offline import VllmOffline
from hybrid_ops.engines.vllm_server import RunningServer, VllmServer
from hybrid_ops.errors import InputError
from hybrid_ops.measure.peaks import known_memory
from hybrid_ops.measure.procedures import read_suites
from hybrid_ops.models.devices import find_device
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.regression.baselines import BaselineFile
from hybrid_ops.run.options import SuiteOptions
from hybrid_ops.run.plan import SuitePlan
from hybrid_ops.yaml_files import load_schema

H100 = int(find_device("h100-sxm").memory or 0)
RTX_5080 = int(find_device("rtx-5080").memory or 0)
BASELINES = Path(__file__).parents[2] / "perf_baselines"


def spec(model: str = "nemotron-h-8b", memory: int | None = H100, **arguments: Any) -> EngineSpec:
    return EngineSpec(model, load_zoo()[model], "cuda", VllmOffline(), arguments=arguments, memory_bytes=memory)


def test_on_cuda_engines_are_what_people_run_and_the_budget_is_said() -> None:
    for engine in (VllmOffline(), VllmServer()):
        arguments = replace(spec(), engine=engine).engine_arguments
        assert arguments["enforce_eager"] is False
        assert arguments["max_num_batched_tokens"] == 8192
        assert arguments["max_num_seqs"] == 256
    on_cpu = EngineSpec("llama-tiny", load_zoo()["llama-tiny"], "cpu", VllmOffline())
    assert on_cpu.engine_arguments == {
        "skip_tokenizer_init": True,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "max_model_len": 2304,
        "disable_log_stats": False,
        "seed": 42,
        "kv_cache_memory_bytes": 1 << 28,
        "load_format": "seeded",
    }


def test_eager_is_a_named_configuration_and_rollouts_use_it() -> None:
    suites = read_suites()
    assert suites.configurations["eager"].arguments == {"enforce_eager": True}
    cells = SuitePlan(SuiteOptions(suite="rollout", platform="cuda")).cells()
    arguments = [cell.case.spec.engine_arguments for cell in cells if cell.case.spec.platform == "cuda"]
    assert arguments and all(one["enforce_eager"] for one in arguments)


def test_recorded_baselines_still_have_the_definition_of_their_cases() -> None:
    planned = {}
    for suite in read_suites().suites:
        planned |= {cell.id: cell for cell in SuitePlan(SuiteOptions(suite=suite)).cells()}
    recorded = {
        f"{case}-{metric}": entry.definition
        for path in BASELINES.glob("*/*.yaml")
        if path.parent.name != "published"
        for case, entry in load_schema(path, BaselineFile, 1).cases.items()
        for metric in entry.metrics
    }
    known = {name: cell for name, cell in planned.items() if name in recorded}
    assert len(known) > 100
    assert {name: cell.definition for name, cell in known.items()} == {name: recorded[name] for name in known}


def test_the_cache_follows_from_the_weights_the_device_and_the_planner() -> None:
    one, other = spec("unphi4-14b"), spec("unphi4-14b", int(find_device("h200").memory or 0))
    small = one.engine_arguments["kv_cache_memory_bytes"]
    weights = one.layer_stack().parameters * 2
    assert 0.6 * (0.9 * H100 - weights) < small < 0.9 * H100 - weights
    assert other.engine_arguments["kv_cache_memory_bytes"] > small
    assert small % (1 << 28) == 0
    # A small model has no more than all of its sequences can use: 256 of 2304 tokens.
    tiny = spec("llama-tiny").engine_arguments["kv_cache_memory_bytes"]
    per_token = 4 * 2 * 2 * 64 * 2
    assert 256 * 2304 * per_token <= tiny < 256 * 2304 * per_token + 2 * (1 << 28)


@pytest.mark.parametrize(
    ("found", "size"),
    [
        (spec(), CacheSize.DEVICE),
        (spec(memory=None), CacheSize.FREE_MEMORY),
        (spec(kv_cache_memory_bytes=1 << 30), CacheSize.ARGUMENTS),
        (spec(kv_cache_memory_bytes=None), CacheSize.FREE_MEMORY),
    ],
    ids=["known device", "unknown device", "given", "left to the engine"],
)
def test_blocks_are_exact_only_where_the_size_of_the_cache_is_fixed(found: EngineSpec, size: CacheSize) -> None:
    assert found.engine.cache_size(found) is size


def test_the_definition_of_a_case_is_the_same_on_every_device() -> None:
    h100, h200 = spec(), spec(memory=int(find_device("h200").memory or 0))
    assert h100.definition(portable=False) == h200.definition(portable=False) == spec(memory=None).definition(False)
    assert h100.definition(portable=False) != spec(max_model_len=4096).definition(portable=False)


def test_what_does_not_fit_is_told_with_both_numbers() -> None:
    assert spec().misfit is None and spec(memory=None).misfit is None
    misfit = spec(memory=RTX_5080).misfit
    assert misfit is not None and misfit.startswith("nemotron-h-8b needs ")
    assert "weights 16." in misfit and misfit.endswith("may use 14.4 GB of the 16.0 GB that the device has")
    assert spec("llama-3.2-1b", RTX_5080).misfit is None
    assert spec(memory=RTX_5080, tensor_parallel_size=4).misfit is None, "each device has a part of the weights"


def test_two_live_on_one_device_where_half_of_it_is_enough() -> None:
    small, large = spec("llama-3.2-1b"), spec("nemotron-h-8b", 24 * 10**9)
    halved = small.engine.beside_another(small)
    assert halved is not None
    both = halved.engine_arguments
    assert both["gpu_memory_utilization"] == 0.45
    assert 2 * both["kv_cache_memory_bytes"] < 0.9 * H100
    assert large.misfit is None and large.engine.beside_another(large) is None
    for alone in (spec("llama-3.2-1b", None), spec("llama-3.2-1b", gpu_memory_utilization=0.9)):
        assert alone.engine.beside_another(alone) is None
    greedy = spec("llama-3.2-1b", kv_cache_memory_bytes=50 * 10**9)
    assert greedy.engine.beside_another(greedy) is None
    on_cpu = EngineSpec("llama-tiny", load_zoo()["llama-tiny"], "cpu", VllmOffline())
    assert on_cpu.engine.beside_another(on_cpu) is on_cpu


def test_kernels_repeat_where_no_timing_chooses_them() -> None:
    assert not spec("llama-3.2-1b").engine.repeats_kernels(spec("llama-3.2-1b"))
    eager = spec("llama-3.2-1b", enforce_eager=True)
    assert eager.engine.repeats_kernels(eager)
    recurrent = spec("nemotron-h-8b", enforce_eager=True)
    assert not recurrent.engine.repeats_kernels(recurrent)
    ordered = replace(recurrent, environment={"VLLM_TRITON_FORCE_FIRST_CONFIG": "1"})
    assert ordered.engine.repeats_kernels(ordered)
    on_cpu = EngineSpec("nemotron-h-tiny", load_zoo()["nemotron-h-tiny"], "cpu", VllmOffline())
    assert on_cpu.engine.repeats_kernels(on_cpu)


def test_a_running_server_is_planned_by_nobody() -> None:
    running = replace(spec(), platform="server", engine=VllmServer(RunningServer("http://h")), memory_bytes=None)
    assert running.engine_arguments == {}
    assert running.misfit is None
    assert running.engine.beside_another(running) is None
    assert not running.engine.compiles(running)


def test_real_weights_are_those_of_one_commit(tmp_path: Path) -> None:
    pinned = replace(spec("qwen3-1.7b"), weights="hub")
    moved = replace(pinned, entry=pinned.entry.model_copy(update={"revision": "0" * 40}))
    assert pinned.definition(portable=True) != moved.definition(portable=True)
    assert f"hub Qwen/Qwen3-1.7B@{pinned.entry.revision}" in pinned.definition(portable=True)
    unpinned = replace(pinned, entry=pinned.entry.model_copy(update={"revision": None}))
    with pytest.raises(InputError, match=r"models\.qwen3-1\.7b\.revision: .*git ls-remote .*Qwen/Qwen3-1\.7B HEAD"):
        unpinned.engine.prepare(unpinned, tmp_path)


def test_a_device_that_is_not_in_the_table_has_no_known_memory() -> None:
    assert known_memory(Device("cuda", 0, "NVIDIA H200", "nvidia-h200")) == int(141e9)
    assert known_memory(Device("cuda", 0, "NVIDIA Imaginary 9000", "nvidia-imaginary-9000")) is None
