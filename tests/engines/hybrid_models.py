"""Small models of the suite's own architecture, as `hybrid_ops.layers` computes them and as vLLM loads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import HybridAttentionConfig
from hybrid_ops.layers.language_model import LanguageModel, from_config
from tests.engines.real_engine import fill, log_probabilities, random_prompts

VOCABULARY, WINDOW, LAYERS = 128, 48, 2
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "sliding_window": WINDOW,
    "mamba_d_state": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "dtype": "float32",
}

BLOCK = 128
"""Tokens a block of the engine's cache on a CPU."""
FEW_BLOCKS = {
    "dtype": "bfloat16",
    "max_num_batched_tokens": 192,
    "enable_prefix_caching": False,
    "kv_cache_memory_bytes": 12 * LAYERS * BLOCK * 256,  # 12 blocks: a token takes 256 bytes in each layer
}
FEW_BLOCKS_PROMPTS = random_prompts((300, WINDOW, 380, BLOCK, 40, 200, 1, 2, 3, 4, 5, 6, 7, 8), VOCABULARY)
"""More than fit into `FEW_BLOCKS` at a time. The last leave most of a block as its former owner left it."""

FLOAT32 = 1e-4
"""Largest difference of a log-probability in float32, where only the order of sums differs."""


def random_model(attention: str, folder: Path) -> LanguageModel:
    """A model with weights of a trained one's size, saved in float32 as the engine reads it.

    Half of the history's heads forget over hundreds of tokens, so that what is far away has its say.
    """
    config = HybridAttentionConfig(attention=attention, **SIZES)
    model = from_config(config)
    fill(model)
    with torch.no_grad():
        for block in model.layers:
            if attention == "hybrid":
                block.mamba.A_log[::2] = -4.0
    save(model, config, folder)
    return model


def save(model: LanguageModel, config: HybridAttentionConfig, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`."""
    folder.mkdir(exist_ok=True)
    config.save_pretrained(folder)
    save_file({name: weight.contiguous() for name, weight in checkpoint(model).items()}, folder / "model.safetensors")


def checkpoint(model: LanguageModel) -> dict[str, Tensor]:
    """The weights by the names of a checkpoint: what `load_transformers` takes, the other way round."""
    weights = {}
    for name, weight in model.state_dict().items():
        if match := re.match(r"layers\.(\d+)\.(\w+)\.", name):
            names: dict[str, str] = model.layers[int(match[1])].transformers_names  # type: ignore[assignment]
            theirs = next((their for their, own in names.items() if own == match[2]), match[2])
            name = f"layers.{match[1]}.{theirs}.{name[match.end() :]}"
        weights[name if name.startswith("lm_head.") else f"model.{name}"] = weight
    return weights


@torch.no_grad()
def expected(model: LanguageModel, prompt: list[int], tokens: list[int]) -> Tensor:
    """[tokens, vocabulary] log-probabilities at each generated token, from one pass over prompt and tokens."""
    logits, _ = model(torch.tensor([prompt + tokens[:-1]]))
    return logits[0, len(prompt) - 1 :].float().log_softmax(-1)


def differences(model: LanguageModel, prompts: list[list[int]], answers: list[dict[str, Any]]) -> Tensor:
    """How far each log-probability of the engine's answers is from the model's own."""
    return torch.cat(
        [
            log_probabilities(answer) - expected(model, prompt, answer["tokens"])
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
    )


def check_answers(model: LanguageModel, prompts: list[list[int]], answers: list[dict[str, Any]]) -> None:
    """Assert that the engine's log-probabilities are the model's in float32, and its tokens the greedy ones.

    Where the two best tokens of the model are closer than rounding, either is.
    """
    for prompt, answer in zip(prompts, answers, strict=True):
        rows = expected(model, prompt, answer["tokens"])
        assert (log_probabilities(answer) - rows).abs().max() < FLOAT32
        chosen = rows.gather(1, torch.tensor(answer["tokens"])[:, None])[:, 0]
        assert (rows.amax(-1) - chosen).max() < 2 * FLOAT32
