"""From a Hugging Face configuration to a model's layer stack, by the reader of its architecture family.

Absent fields take the defaults of Hugging Face's configuration class, except those without which a model is a guess
(sizes, numbers of layers and of heads): these are required. Each reader was checked against the parameters of the
module built from the same configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid_ops.models.configs import find_config, load_config
from hybrid_ops.models.fields import Fields
from hybrid_ops.models.readers import delta, softmax, state_space
from hybrid_ops.models.stack import BYTES_OF_DTYPE, Layer, ModelStack

Reader = Callable[[Fields], list[Layer]]

READERS: dict[str, tuple[Reader, bool]] = {
    "llama": (softmax.read_llama, False),
    "mistral": (softmax.read_mistral, False),
    "hybrid_attention": (state_space.read_hybrid_attention, False),
    "qwen3": (softmax.read_qwen3, False),
    "gemma3_text": (softmax.read_gemma3, True),
    "nemotron_h": (state_space.read_nemotron_h, False),
    "falcon_h1": (state_space.read_falcon_h1, False),
    "mamba": (state_space.read_mamba1, True),
    "falcon_mamba": (state_space.read_mamba1, True),
    "mamba2": (state_space.read_mamba2, False),
    "olmo_hybrid": (delta.read_olmo_hybrid, False),
    "qwen3_next": (delta.read_qwen3_next, False),
    "qwen3_5_text": (delta.read_qwen3_5, False),
    "jamba": (state_space.read_jamba, False),
    "zamba2": (state_space.read_zamba2, True),
    "granitemoehybrid": (state_space.read_granite_hybrid, False),
    "lfm2": (delta.read_lfm2, True),
}
"""By `model_type`: the reader of its layers, and whether its output head is tied unless the configuration says."""

TEXT_MODELS = {"gemma3": "gemma3_text", "qwen3_5": "qwen3_5_text"}
"""Multimodal configurations whose `text_config` is read: the language model alone is accounted for."""


def read_model(config: Mapping[str, Any], source: str = "config") -> ModelStack:
    """The layer stack of a Hugging Face configuration. `source` names it in messages.

    Raises InputError, one line that names `source` and the field, for an unknown `model_type` or layer type, and for a
    field that is missing or makes no model.
    """
    model_type = config.get("model_type")
    if model_type in TEXT_MODELS and isinstance(config.get("text_config"), Mapping):
        config = {**config["text_config"], "model_type": TEXT_MODELS[model_type]}
        model_type = config["model_type"]
    fields = Fields(config, source)
    if model_type not in READERS:
        raise fields.fault("model_type", f"unknown architecture {model_type!r}; known: {', '.join(READERS)}")
    reader, tied = READERS[model_type]
    layers: Sequence[Layer] = reader(fields)
    tied_field = "tie_embedding" if "tie_embedding" in config else "tie_word_embeddings"
    state_field = {"nemotron_h": "mamba_ssm_cache_dtype", "qwen3_5_text": "mamba_ssm_dtype"}.get(model_type)
    return ModelStack(
        source=source,
        model_type=model_type,
        dtype=_engine_dtype(fields),
        vocabulary=fields.size("vocab_size"),
        hidden=fields.size("hidden_size"),
        layers=tuple(layers),
        tied=fields.flag(tied_field, tied),
        state_dtype=config.get(state_field) if state_field else None,
    )


def load_model(name_or_path: str | Path) -> ModelStack:
    """The layer stack of a model of the zoo, of a JSON file, or of a folder with a `config.json`. Raises InputError."""
    return read_model(load_config(name_or_path), source=str(find_config(name_or_path)))


def _engine_dtype(fields: Fields) -> str:
    """What engines run the model in: the configuration's data type, with float32 lowered to bfloat16 as vLLM does."""
    dtype = fields.config.get("dtype") or fields.config.get("torch_dtype") or "bfloat16"
    if dtype not in BYTES_OF_DTYPE:
        raise fields.fault("dtype", f"unknown data type {dtype!r}; known: {', '.join(BYTES_OF_DTYPE)}")
    return "bfloat16" if dtype == "float32" else dtype
