"""Utilisation of a sample, against the accounting by hand; and where a device's peaks come from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from hybrid_ops.engines.devices import Device
from hybrid_ops.engines.protocol import DeviceFacts, GeneratedRequest, GenerationSample, LoadFacts
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_offline import VllmOffline
from hybrid_ops.errors import InputError
from hybrid_ops.measure.peaks import has_peaks, run_peaks
from hybrid_ops.measure.utilisation import phase_values, utilisation_values
from hybrid_ops.models.cost import generation_cost
from hybrid_ops.models.devices import DevicePeaks, find_device
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.batch import ClosedBatch

CPU = Device("cpu", 0, "a processor", "cpu-a-processor")
PEAKS = DevicePeaks("cpu", {"bfloat16": 1e12}, 1e10, None, "invented")
WORKLOAD = ClosedBatch(description="", prompt_tokens=100, generation_tokens=11, num_prompts=3)


FACTS = LoadFacts(
    load_seconds=0.0,
    model_bytes=None,
    cache=None,
    device=DeviceFacts("cpu", None, None, None, None),
    reference_kernels=[],
    versions={"vllm": "0.32.0+cpu"},
    server=None,
)


def spec(model: str) -> EngineSpec:
    return EngineSpec(model, load_zoo()[model], "cpu", VllmOffline())


def values(of: EngineSpec, peaks: DevicePeaks | None, steps: int = 11, idle: int = 0) -> dict[str, float]:
    """`idle`: steps in which the model computes nothing, as asynchronous scheduling has them."""
    sample = GenerationSample(
        elapsed_seconds=0.5,
        prompt_tokens=300,
        cached_tokens=0,
        requests=[],
        steps=[(0.0, 0)] * idle + [(0.1, 3)] * steps,
        model_steps=steps,
        output_hash="",
        leading_tokens=[],
        peak_blocks=0,
        peak_memory_bytes=1,
        ranks=[],
        kernel_choices={},
    )
    return utilisation_values(of, WORKLOAD, sample, FACTS, peaks)


@pytest.mark.parametrize("model", ["llama-tiny", "gemma3-tiny", "nemotron-h-tiny", "qwen3-next-tiny"])
def test_shares_are_percent_of_the_peaks(model: str) -> None:
    stack = spec(model).layer_stack()
    cost = generation_cost(stack, 3, 100, 11, state_dtype="float32")  # as the engine keeps states on a CPU
    seen = values(spec(model), PEAKS)
    assert seen["mfu"] == pytest.approx(100 * cost.total.flops.total / 0.5 / 1e12)
    assert seen["mbu"] == pytest.approx(100 * cost.total.bytes.total / 0.5 / 1e10)
    assert seen["arithmetic_intensity"] == cost.total.flops.total / cost.total.bytes.total
    bound = sum(max(phase.flops.total / 1e12, phase.bytes.total / 1e10) for phase in (cost.prefill, cost.decode))
    assert seen["roofline_ms"] == pytest.approx(1e3 * bound)
    assert seen["roofline_share"] == pytest.approx(100 * bound / 0.5)


def test_the_weights_count_once_for_each_step_of_the_engine() -> None:
    whole, chunked = values(spec("llama-tiny"), PEAKS), values(spec("llama-tiny"), PEAKS, steps=13)
    stack = spec("llama-tiny").layer_stack()
    extra = (
        generation_cost(stack, 3, 100, 11, prefill_steps=3).total.bytes.total
        - generation_cost(stack, 3, 100, 11).total.bytes.total
    )
    assert extra > 0
    assert chunked["mbu"] - whole["mbu"] == pytest.approx(100 * extra / 0.5 / 1e10)
    assert chunked["mfu"] == whole["mfu"]


def test_each_phase_has_its_place_in_the_roofline() -> None:
    cost = generation_cost(spec("llama-tiny").layer_stack(), 2, 100, 3)
    requests = [GeneratedRequest([0.1, 0.3, 0.5]), GeneratedRequest([0.2, 0.4, 0.6])]
    sample = GenerationSample(0.6, 200, 0, requests, [], 3, "", [], 0, 1, [], {})
    seen = phase_values(cost, sample, devices=2)
    assert seen["prefill_arithmetic_intensity"] == cost.prefill.flops.total / cost.prefill.bytes.total
    assert seen["prefill_flops_per_second"] == pytest.approx(cost.prefill.flops.total / 0.2 / 2)
    assert seen["decode_arithmetic_intensity"] == cost.decode.flops.total / cost.decode.bytes.total
    assert seen["decode_flops_per_second"] == pytest.approx(cost.decode.flops.total / (0.6 - 0.1) / 2)


def test_one_token_has_no_decode() -> None:
    cost = generation_cost(spec("llama-tiny").layer_stack(), 1, 100, 1)
    sample = GenerationSample(0.1, 100, 0, [GeneratedRequest([0.1])], [], 1, "", [], 0, 1, [], {})
    assert {name.partition("_")[0] for name in phase_values(cost, sample, devices=1)} == {"prefill"}


def test_a_step_without_work_reads_no_weights() -> None:
    assert values(spec("llama-tiny"), PEAKS, idle=1) == values(spec("llama-tiny"), PEAKS)


def test_without_peaks_only_the_intensity_is_known_and_without_a_known_architecture_nothing(tmp_path: Path) -> None:
    assert values(spec("llama-tiny"), None).keys() == {"arithmetic_intensity"}
    (tmp_path / "config.json").write_text('{"vocab_size": 100}')
    entry = load_zoo()["llama-tiny"].model_copy(update={"config": "config.json", "source": tmp_path / "zoo.yaml"})
    unknown = EngineSpec("unknown", entry, "cpu", VllmOffline())
    assert values(unknown, PEAKS) == {}


def test_a_gpus_peaks_are_the_tables(tmp_path: Path) -> None:
    h200 = Device("cuda", 0, "NVIDIA H200", "nvidia-h200")
    assert run_peaks(h200, {"bfloat16"}, tmp_path / "peaks.json", record=True) == find_device("h200")
    assert not (tmp_path / "peaks.json").exists()
    assert has_peaks(h200) and has_peaks(CPU)
    assert not has_peaks(Device("cuda", 0, "NVIDIA Imaginary 9000", "nvidia-imaginary"))


@pytest.mark.long
def test_a_processors_peaks_are_measured_once_and_recorded_by_an_update_only(tmp_path: Path) -> None:
    recorded = tmp_path / "class" / "peaks.json"
    measured = run_peaks(CPU, {"bfloat16"}, recorded, record=False)
    assert measured.bandwidth > 1e8 and measured.flops["bfloat16"] > 1e8
    assert not recorded.exists()
    recorded.parent.mkdir()
    recorded.write_text(json.dumps(asdict(PEAKS)))
    assert run_peaks(CPU, {"bfloat16"}, recorded, record=True) == PEAKS
    more = run_peaks(CPU, {"bfloat16", "float32"}, recorded, record=True)
    assert more.flops["bfloat16"] == 1e12 and more.flops["float32"] > 1e8
    assert more.bandwidth == PEAKS.bandwidth
    assert json.loads(recorded.read_text()) == asdict(more)


@pytest.mark.parametrize("text", ["[]", "{", '{"name": "cpu"}', json.dumps(asdict(PEAKS) | {"bandwidth": 0})])
def test_a_broken_file_of_peaks_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "peaks.json").write_text(text)
    with pytest.raises(InputError, match=r"peaks\.json: not the peaks of a device.*remove it") as caught:
        run_peaks(CPU, {"bfloat16"}, tmp_path / "peaks.json", record=False)
    assert "\n" not in str(caught.value)
