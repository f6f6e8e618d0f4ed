"""Fallbacks inside a real vLLM: the same log-probabilities as the transformers module with the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hybrid_ops.engines.worker import WorkerError
from hybrid_ops.models.zoo import ZOO_FILE
from tests.engines.hybrid_models import FEW_BLOCKS, FEW_BLOCKS_PROMPTS, random_model
from tests.engines.real_engine import Engine, engine, fill, log_probabilities, needs_vllm, random_prompts

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.long, needs_vllm]

VOCABULARY = 128
GENERATED = 5
# One block is 128 tokens for models with attention, and prefills are cut at 192: shorter, one, several of both.
PROMPTS = random_prompts((3, 128, 300, 40, 410), VOCABULARY)
FLOAT32 = 1e-4
"""Largest difference of a log-probability in float32, where only the order of sums differs (seen: 2.4e-5)."""
BFLOAT16 = 1.5
"""Largest root mean square error in bfloat16, in units of transformers' own error (seen: 0.9 to 1.3)."""

SCAN = ["selective_scan_fn", "selective_state_update"]
DELTA_RULE = ["chunk_gated_delta_rule", "fused_olmo_hybrid_gdn_gating", "fused_recurrent_gated_delta_rule"]
CHECKPOINT = ["store_prefill_checkpoint"]
MODELS = {
    "mamba-tiny": (SCAN, {"num_hidden_layers": 2}),
    "falcon-mamba-tiny": (SCAN, {"num_hidden_layers": 2}),
    "olmo-hybrid-tiny": (DELTA_RULE, {"num_hidden_layers": 4}),
    "mamba2-tiny": (CHECKPOINT, {"num_hidden_layers": 2}),
    # Neither limit of Δ from below, nor an untied head: transformers has both, vLLM's layers have not.
    "nemotron-h-tiny": (CHECKPOINT, {"time_step_min": 1e-9}),
    "falcon-h1-tiny": (CHECKPOINT, {"num_hidden_layers": 2}),
    "zamba2-tiny": (CHECKPOINT, {"time_step_min": 1e-9, "tie_word_embeddings": True}),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine")) as shared:
        yield shared


def build(name: str, folder: Path) -> torch.nn.Module:
    """The model in float32, saved as the engine reads it."""
    folder.mkdir(exist_ok=True)
    fields = json.loads((ZOO_FILE.parent / "zoo" / f"{name}.json").read_text())
    fields |= {"vocab_size": VOCABULARY, "dtype": "float32"} | MODELS[name][1]
    if "layer_types" in fields:
        fields["layer_types"] = fields["layer_types"][: fields["num_hidden_layers"]]
    config = transformers.AutoConfig.for_model(**fields)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    fill(model)
    if name == "olmo-hybrid-tiny":
        save_olmo(model, folder)
    else:
        model.save_pretrained(folder)
    return model


def save_olmo(model: torch.nn.Module, folder: Path) -> None:
    """Save OLMo-Hybrid by the names that vLLM reads: those of transformers, but a convolution for each of q, k and v.

    `save_pretrained` also writes the norms by the names of the original code, which vLLM does not know.
    """
    weights = {}
    for name, weight in model.state_dict().items():
        if ".conv1d." in name:
            parts = weight.split([4 * 64] * 3)
            weights |= {name.replace("conv1d", f"{part}_conv1d"): w.contiguous() for part, w in zip("qkv", parts)}
        else:
            weights[name] = weight
    save_file(weights, folder / "model.safetensors")
    model.config.save_pretrained(folder)


@torch.no_grad()
def expected(model: torch.nn.Module, prompt: list[int], tokens: list[int]) -> Tensor:
    """The log-probabilities at each generated token, from one pass over prompt and tokens without a cache."""
    logits = model(torch.tensor([prompt + tokens[:-1]]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 :].float().log_softmax(-1)


def errors(model: torch.nn.Module, answers: list[dict[str, Any]]) -> Tensor:
    """How far each log-probability of the answers is from the model's own."""
    return torch.cat([log_probabilities(a) - expected(model, p, a["tokens"]) for p, a in zip(PROMPTS, answers)])


@pytest.mark.parametrize("name", MODELS)
def test_float32_with_prefix_caching(name: str, shared: Engine, tmp_path: Path) -> None:
    model = build(name, tmp_path)
    replaced = shared.load(tmp_path, dtype="float32", max_num_batched_tokens=192, enable_prefix_caching=True)
    assert replaced == MODELS[name][0]
    first = shared.generate(PROMPTS, GENERATED, steps_between=2)
    again = shared.generate(PROMPTS, GENERATED)
    assert sum(answer["cached"] for answer in first) == 0
    assert sum(answer["cached"] for answer in again) >= 2 * 128
    assert errors(model, first).abs().max() < FLOAT32
    assert errors(model, again).abs().max() < FLOAT32


@pytest.mark.parametrize("name", ["mamba-tiny", "olmo-hybrid-tiny", "nemotron-h-tiny"])  # one for each fallback
def test_bfloat16_without_prefix_caching(name: str, shared: Engine, tmp_path: Path) -> None:
    model = build(name, tmp_path).to(torch.bfloat16)
    shared.load(tmp_path, dtype="bfloat16", max_num_batched_tokens=192, enable_prefix_caching=False)
    answers = shared.generate(PROMPTS, GENERATED, steps_between=2)
    of_transformers = torch.cat([expected(model, p, a["tokens"]) for p, a in zip(PROMPTS, answers)])
    model.float()  # the weights stay rounded, so that only the arithmetic differs
    exact = torch.cat([expected(model, p, a["tokens"]) for p, a in zip(PROMPTS, answers)])
    unavoidable = (of_transformers - exact).square().mean().sqrt()
    assert errors(model, answers).square().mean().sqrt() < BFLOAT16 * unavoidable


def test_without_the_fallbacks_the_engine_fails(tmp_path: Path) -> None:
    """What the fallbacks are for. A vLLM that mends one of these fails here: then its fallback can go."""
    failures = {
        "mamba-tiny": "Dimension out of range|no attribute 'selective_scan_fwd'",  # by the processor's vector units
        "olmo-hybrid-tiny": "module 'triton' has no attribute 'set_allocator'",
        "mamba2-tiny": "index .* is out of bounds",
    }
    with engine(tmp_path / "engine", HYBRID_OPS_FALLBACKS="0") as bare:
        for name, message in failures.items():
            build(name, tmp_path / name)
            with pytest.raises(WorkerError, match=message):  # noqa: PT012 - some fail on loading, some later
                bare.load(tmp_path / name, dtype="bfloat16", max_num_batched_tokens=192, enable_prefix_caching=True)
                bare.generate(PROMPTS, GENERATED)
        # Windows read blocks that states have left: in test_hybrid_attention.py the same gives the reference's numbers.
        random_model("hybrid", tmp_path / "hybrid")
        bare.load(tmp_path / "hybrid", **FEW_BLOCKS)
        answers = bare.generate(FEW_BLOCKS_PROMPTS, GENERATED, steps_between=1)
        # Seen with vLLM's AVX-512 kernels only: those for AVX2 gave finite numbers on the same blocks.
        if torch.cpu._is_avx512_supported():
            assert torch.cat([log_probabilities(answer) for answer in answers]).isnan().any()
