"""The llama-bench engine: its worker on a fake program, the GGUF files it is given, and llama.cpp itself if built."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid_ops.engines.gguf_models import drawn_gguf, drawn_model, write_gguf
from hybrid_ops.engines.llama_bench_worker import built_program, option_words
from hybrid_ops.engines.protocol import LLAMA_BENCH, LOAD
from hybrid_ops.engines.registry import find_engine
from hybrid_ops.engines.worker import Worker, WorkerError
from hybrid_ops.errors import InputError
from hybrid_ops.models.zoo import ZOO_FILE

FAKE = Path(__file__).with_name("fake_llama_bench.py")
TEST = {"prompt_tokens": 32, "generation_tokens": 0, "depth": 0, "repetitions": 3}
GREEDY = built_program().with_name("greedy-tokens")
needs_llama_cpp = pytest.mark.skipif(not GREEDY.exists(), reason="llama.cpp is not built here: ci/build-llama-bench")


def worker(folder: Path, **environment: str | None) -> Worker:
    variables = {"HYBRID_OPS_LLAMA_BENCH": str(FAKE), **environment}
    return Worker(find_engine("llama-bench", "test").worker, folder, environment=variables)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that the fake takes for a model."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    return str(tmp_path / "model.gguf")


def test_a_test_is_asked_and_answered(tmp_path: Path, model: str) -> None:
    with worker(tmp_path, OMP_NUM_THREADS="3", FAKE_LLAMA_BENCH_REAL_TIME="1") as program:
        facts = program.ask(LOAD, 30, model=model, arguments={"flash_attn": True})
        sample = program.ask(LLAMA_BENCH, 30, **TEST)
        both = program.ask(LLAMA_BENCH, 30, **{**TEST, "generation_tokens": 8, "depth": 16})
    assert (facts.device.platform, facts.device.threads, facts.model_bytes) == ("cpu", 3, 2_000_000)
    assert facts.versions == {"llama.cpp": "fake (1)"}
    assert (sample.n_prompt, sample.n_gen, len(sample.samples_ns), sample.flash_attn) == (32, 0, 3, "1")
    assert (both.n_prompt, both.n_gen, both.n_depth) == (32, 8, 16)
    # Each repetition begins after the one before it has ended.
    ends = [start + time / 1e9 for start, time in zip(sample.starts, sample.samples_ns)]
    assert all(end <= start + 1e-3 for end, start in zip(ends, sample.starts[1:]))


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({"HYBRID_OPS_LLAMA_BENCH": "/no/such"}, {}, "HYBRID_OPS_LLAMA_BENCH: no such program: /no/such"),
        (
            {"HYBRID_OPS_LLAMA_BENCH": None, "PATH": "", "XDG_CACHE_HOME": "/no"},
            {},
            "build it with ci/build-llama-bench",
        ),
        ({}, {"n_prompt": 5}, "n_prompt: the workload and the model say this"),
        ({"HYBRID_OPS_INJECT": "0.05"}, {}, "no step that --perf-inject could slow"),
    ],
)
def test_what_cannot_be_loaded_says_why(
    tmp_path: Path, model: str, environment: dict[str, str | None], arguments: dict[str, Any], message: str
) -> None:
    with worker(tmp_path, **environment) as program, pytest.raises(WorkerError, match=message):
        program.ask(LOAD, 30, model=model, arguments={"flash_attn": True, **arguments})


def test_a_program_that_fails_is_quoted(tmp_path: Path, model: str) -> None:
    with worker(tmp_path, FAKE_LLAMA_BENCH_FAULT="exit") as program:
        with pytest.raises(WorkerError, match="failed to load model 'nothing'"):
            program.ask(LOAD, 30, model="nothing", arguments={"flash_attn": True})
        program.ask(LOAD, 30, model=model, arguments={"flash_attn": True})
        with pytest.raises(WorkerError, match="llama-bench ended with 1: llama_bench: error: failed to run prompt"):
            program.ask(LLAMA_BENCH, 30, **TEST)


def test_arguments_are_long_options() -> None:
    words = option_words({"flash_attn": False, "n_gpu_layers": 99, "cache_type_k": "q8_0"})
    assert words == ["--flash-attn", "0", "--n-gpu-layers", "99", "--cache-type-k", "q8_0"]


def config_of(name: str) -> dict[str, Any]:
    return json.loads((ZOO_FILE.parent / "zoo" / f"{name}.json").read_text())


def test_a_drawn_model_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = config_of("qwen3.5-tiny")
    path = drawn_gguf(config, "F16", "config.json")
    written = path.stat().st_mtime_ns
    assert drawn_gguf(config, "F16", "config.json") == path and path.stat().st_mtime_ns == written
    assert list(path.parent.iterdir()) == [path]
    assert drawn_gguf(config | {"num_hidden_layers": 8, "layer_types": 2 * config["layer_types"]}, "F16", "x") != path


@pytest.mark.parametrize(
    ("config", "file_type", "message"),
    [({"model_type": "mamba"}, "F16", r"^c\.json: model_type: 'mamba' cannot be written as GGUF; there are llama"),
     ({"model_type": "llama"}, "Q4_0", "weights_type: F32 or F16, not 'Q4_0'")],
)  # fmt: skip
def test_what_cannot_be_written_is_one_line(config: dict[str, Any], file_type: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        drawn_gguf(config, file_type, "c.json")


@needs_llama_cpp
@pytest.mark.parametrize("file_type", ["F32", "F16"])
@pytest.mark.parametrize("name", ["llama-tiny", "qwen3.5-tiny"])
def test_llama_cpp_gives_the_tokens_of_the_reference_layers(tmp_path: Path, name: str, file_type: str) -> None:
    """The same weights, greedily, 32 tokens: a wrong layout or a wrong layer would show at once."""
    config = config_of(name)
    model = drawn_model(config)
    write_gguf(model, config, file_type, tmp_path / "model.gguf")
    if file_type == "F16":
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter.dim() == 2:
                    parameter.copy_(parameter.half())
                assert parameter.dtype == torch.float32, parameter_name
    prompt = [7, 300, 42, 911, 5, 77, 640, 123, 8, 1000]
    expected, cache, tokens = [], None, torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(32):
            logits, cache = model(tokens, cache)
            expected.append(int(logits[0, -1].argmax()))
            tokens = torch.tensor([[expected[-1]]])
    done = subprocess.run(
        [str(GREEDY), str(tmp_path / "model.gguf"), "32", *map(str, prompt)], capture_output=True, text=True, check=True
    )
    assert [int(word) for word in done.stdout.split()] == expected
    assert len(set(expected)) > 8, "a model that repeats itself shows little"
