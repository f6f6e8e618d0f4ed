"""What the reference model of `hybrid_ops.layers` thinks of texts, with the very weights that an engine has drawn.

An engine with drawn weights tells the name, shape and type of each parameter. They are drawn again here, taken apart
where the engine has fused them, and put into the reference model, which computes in one type wider than the engine and
once more in the engine's own: how far these two are apart is what rounding costs this model. Answers are kept in the
user's cache, because the same weights and texts have the same answers for ever.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from hybrid_ops.engines.protocol import DrawnWeights
from hybrid_ops.errors import InputError
from hybrid_ops.models.packaged import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

    from hybrid_ops.layers.language_model import LanguageModel

FORMAT_VERSION = 1
"""Raised by one when answers change, so that older ones in the cache are left alone."""
REFERENCE_TYPES = frozenset(
    {
        "falcon_h1",
        "falcon_mamba",
        "gemma3_text",
        "hybrid_attention",
        "llama",
        "mamba",
        "mamba2",
        "nemotron_h",
        "olmo_hybrid",
        "qwen3_5_text",
        "qwen3_next",
    }
)
"""The model types that `layers.language_model.from_config` builds, said here because importing torch takes seconds."""
LISTED = 8
"""How many of the likeliest tokens are kept of each position."""
FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "in_proj_qkvg": ("q_proj", "k_proj", "v_proj", "g_proj"),
}
"""vLLM's parameters that hold several of a checkpoint's, one after another."""


@dataclass(frozen=True)
class ReferenceText:
    """What the reference thinks of one text, for each token after the first."""

    scores: list[float]
    """Log-probabilities, or logits."""
    rounded: list[float]
    """The same, computed in the engine's own type."""
    likeliest: list[dict[int, float]]
    """The likeliest tokens and their log-probabilities."""


ANSWERS = TypeAdapter(list[ReferenceText])


def reference_answers(
    config: Mapping[str, Any], weights: DrawnWeights, texts: Sequence[Sequence[int]], are_logits: bool
) -> list[ReferenceText]:
    """The reference's answer for each text, from the cache where it is there. Raises InputError.

    `config` is the model's Hugging Face configuration.
    """
    parts = json.dumps([FORMAT_VERSION, config, asdict(weights), texts, are_logits], sort_keys=True)
    path = answers_folder() / f"{config['model_type']}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}.json"
    if path.is_file():
        return ANSWERS.validate_json(path.read_bytes())
    answers = _compute(config, weights, texts, are_logits)
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_suffix(f".{hashlib.sha256(str(id(answers)).encode()).hexdigest()[:8]}")
    making.write_bytes(ANSWERS.dump_json(answers))
    making.replace(path)
    return answers


def answers_folder() -> Path:
    """Where answers are kept: beside the converted models, in the user's cache."""
    return cache_folder().parent / "answers"


def _compute(
    config: Mapping[str, Any], weights: DrawnWeights, texts: Sequence[Sequence[int]], are_logits: bool
) -> list[ReferenceText]:
    import torch

    drawn = draw(weights)
    own = drawn["model.embed_tokens.weight" if "model.embed_tokens.weight" in drawn else next(iter(drawn))].dtype
    wide = torch.float64 if own == torch.float32 else torch.float32
    exact = _logits(reference_model(config, drawn, wide), texts)
    rounded = _logits(reference_model(config, drawn, own), texts)
    answers = []
    for text, one, other in zip(texts, exact, rounded):
        following = torch.tensor(text[1:])[:, None]
        log_probabilities = one.log_softmax(-1)
        scores = [(rows if are_logits else rows.log_softmax(-1)).gather(1, following)[:, 0] for rows in (one, other)]
        top = log_probabilities.topk(LISTED)
        likeliest = [dict(zip(ids, values)) for ids, values in zip(top.indices.tolist(), top.values.tolist())]
        answers.append(ReferenceText(scores[0].tolist(), scores[1].tolist(), likeliest))
    return answers


def _logits(model: LanguageModel, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """[tokens − 1, vocabulary] of each text, in float64."""
    import torch

    with torch.inference_mode():
        return [model(torch.tensor([list(text[:-1])]))[0][0].double() for text in texts]


def draw(weights: DrawnWeights) -> dict[str, Tensor]:
    """The parameters of the engine, drawn again."""
    import torch

    from hybrid_ops.engines.vllm_plugins.seeded_weights import fill_parameter, parameter_seed

    drawn = {}
    for one in weights.parameters:
        tensor = torch.empty(one.shape, dtype=getattr(torch, one.dtype))
        fill_parameter(one.name, one.module, tensor, parameter_seed(weights.seed, one.name))
        drawn[one.name] = tensor
    return drawn


def reference_model(config: Mapping[str, Any], drawn: Mapping[str, Tensor], dtype: Any) -> LanguageModel:
    """The reference model of a configuration with an engine's parameters, in `dtype`.

    Decay rates, and whatever else the engine keeps in float32, stay so. Raises InputError where the parameters are not
    the model's.
    """
    import torch
    from transformers import AutoConfig

    from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import HybridAttentionConfig
    from hybrid_ops.layers.language_model import from_config

    if config["model_type"] == HybridAttentionConfig.model_type:
        complete = HybridAttentionConfig(**config)
    else:
        complete = AutoConfig.for_model(**config)
    if config["model_type"] == "nemotron_h":
        complete.time_step_min = 0.0  # vLLM sets no lower limit to Δ
    model = from_config(complete)
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    for name, tensor in drawn.items():
        found.update(_taken_apart(_own_name(model, name), tensor, wanted))
    if "lm_head.weight" not in found and "embed_tokens.weight" in found:
        found["lm_head.weight"] = found["embed_tokens.weight"]  # tied
    try:
        model.load_state_dict(found, strict=True)
    except RuntimeError as error:
        told = f"the reference of {config['model_type']} has other weights than the engine: {error}"
        raise InputError(told) from None
    kept = [name for name, tensor in found.items() if tensor.dtype == torch.float32]
    for name, parameter in model.named_parameters():
        parameter.data = found[name].to(torch.float32 if name in kept and dtype.itemsize < 4 else dtype)
    return model


def _own_name(model: LanguageModel, name: str) -> str:
    """vLLM's name of a parameter, as the reference has it."""
    name = re.sub(r"^(model|backbone)\.", "", name)
    name = re.sub(r"^embeddings\.", "embed_tokens.", name)
    name = re.sub(r"^(norm_f|final_layernorm)\.", "norm.", name)
    name = name.replace(".mamba.mamba.", ".mamba.").replace(".routed_experts.", ".")
    name = name.replace(".w13_weight", ".gate_up_proj").replace(".w2_weight", ".down_proj")
    if match := re.match(r"layers\.(\d+)\.(\w+)\.", name):
        aliases: dict[str, str] = model.layers[int(match[1])].transformers_names  # type: ignore[assignment]
        start, end = match.span(2)
        name = name[:start] + aliases.get(match[2], match[2]) + name[end:]
    return name


def _taken_apart(name: str, tensor: Tensor, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A parameter of the engine as those of the reference."""
    stem, _, leaf = name.rpartition(".")
    if leaf == "A" and name not in wanted:
        return {f"{name}_log": (-tensor).log()}
    parent, _, module = stem.rpartition(".")
    if name not in wanted and module in FUSED:
        parts = [f"{parent}.{part}.{leaf}" for part in FUSED[module]]
        if all(part in wanted for part in parts):
            return dict(zip(parts, tensor.split([wanted[part].shape[0] for part in parts])))
    if name in wanted and name in ("embed_tokens.weight", "lm_head.weight"):
        tensor = tensor[: wanted[name].shape[0]]  # vLLM pads the vocabulary
    return {name: tensor}
