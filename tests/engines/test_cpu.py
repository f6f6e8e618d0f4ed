"""Engines on a CPU: which processors compare with each other, and what is the same on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.engines.registry import find_engine
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.models.zoo import load_zoo

X86 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse4_2 {}\n\nprocessor\t: 1\nmodel name\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("cpuinfo", "told", "unit"),
    [
        (X86.format("avx2"), "AMD EPYC, AVX2, ", "cpu-amd-epyc-avx2-"),
        (X86.format("avx2 avx512f avx512_bf16"), "AMD EPYC, AVX512-BF16, ", "cpu-amd-epyc-avx512-bf16-"),
        (X86.format("avx2 avx512f avx512_bf16 amx_bf16"), "AMD EPYC, AMX, ", "cpu-amd-epyc-amx-"),
        (X86.format(""), "AMD EPYC, ", "cpu-amd-epyc-"),
        (ARM.format("sve"), "unknown processor, SVE, ", "cpu-unknown-processor-sve-"),
        ("", "unknown processor, ", "cpu-unknown-processor-"),
    ],
)
def test_generations_behind_one_name_are_classes_of_their_own(
    tmp_path: Path, cpuinfo: str, told: str, unit: str
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    device = cpu(file)
    cores = device.name.removeprefix(told)
    assert cores.endswith(" cores") and cores.partition(" ")[0].isdigit(), device.name
    assert device.device_class == f"{unit}{cores.partition(' ')[0]}c"


def spec(model: str, engine: str = "vllm", platform: str = "cpu", **arguments: object) -> EngineSpec:
    return EngineSpec(model, load_zoo()[model], platform, find_engine(engine, "test"), arguments=arguments)


@pytest.mark.parametrize("engine", ["vllm", "vllm-server"])
def test_recurrent_states_have_one_data_type_on_every_processor(engine: str) -> None:
    """vLLM's own choice depends on AVX-512 BF16, and cache sizes are compared between processors."""
    for model in ("mamba-tiny", "mamba2-tiny", "nemotron-h-tiny", "qwen3-next-tiny", "attention-hybrid-tiny"):
        assert spec(model, engine).engine_arguments["mamba_ssm_cache_dtype"] == "float32"
    assert "mamba_ssm_cache_dtype" not in spec("llama-tiny", engine).engine_arguments
    assert "mamba_ssm_cache_dtype" not in spec("mamba2-tiny", engine, "cuda").engine_arguments
    asked = spec("qwen3-next-tiny", engine, mamba_ssm_cache_dtype="bfloat16")
    assert asked.engine_arguments["mamba_ssm_cache_dtype"] == "bfloat16"
