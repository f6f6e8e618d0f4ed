"""GGUF files of small models with drawn weights, for llama.cpp.

The model is built from its Hugging Face configuration out of the reference layers, filled as vLLM's load format
`seeded` fills one, and written under the names and in the layout of llama.cpp's own converter
(`convert_hf_to_gguf.py`): so the file and the reference layers hold the same weights. It has no tokenizer: llama-bench
draws its tokens.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_ops.errors import InputError
from hybrid_ops.models.packaged import cache_folder

if TYPE_CHECKING:
    import gguf
    from torch import Tensor

    from hybrid_ops.layers.language_model import LanguageModel

FORMAT_VERSION = 1
"""Raised by one when the files change, so that older ones in the cache are left alone."""
ARCHITECTURES = {"llama": "llama", "qwen3_5_text": "qwen35"}
"""llama.cpp's name of each model type that can be written."""
FILE_TYPES = {"F32": 0, "F16": 1}
"""llama.cpp's number of each type of matrices."""
SEED = 42


def drawn_gguf(config: Mapping[str, Any], file_type: str, source: str) -> Path:
    """The GGUF file of a configuration with drawn weights, made at first use and kept in the user's cache.

    `source` is the configuration's file, for errors. Raises InputError for a model type that cannot be written.
    """
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(f"{source}: model_type: {model_type!r} cannot be written as GGUF; there are {known}")
    if file_type not in FILE_TYPES:
        raise InputError(f"arguments: weights_type: {' or '.join(FILE_TYPES)}, not {file_type!r}")
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"{source}: writing a GGUF file needs the package gguf: pip install 'gguf>=0.19'")
    parts = json.dumps([FORMAT_VERSION, SEED, file_type, dict(config)], sort_keys=True)
    path = cache_folder() / f"{model_type}-{hashlib.sha256(parts.encode()).hexdigest()[:12]}-{file_type}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            making = Path(folder) / path.name
            write_gguf(drawn_model(config), config, file_type, making)
            making.replace(path)
    return path


def drawn_model(config: Mapping[str, Any]) -> LanguageModel:
    """The reference model of a configuration, in float32, with weights drawn from seeds."""
    import torch
    from transformers import AutoConfig

    from hybrid_ops.engines.vllm_plugins.seeded_weights import fill_parameter
    from hybrid_ops.layers.language_model import from_config

    model = from_config(AutoConfig.for_model(**config)).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module = model.get_submodule(name.rpartition(".")[0])
            fill_parameter(name, type(module).__name__, parameter, seed=f"{SEED}:{name}")
            parameter.sub_(getattr(module, "offset", 0.0))
    return model


def write_gguf(model: LanguageModel, config: Mapping[str, Any], file_type: str, path: Path) -> None:
    """Write the reference model of a configuration. Matrices get `file_type`; all else stays float32."""
    import gguf
    import numpy as np
    from transformers import AutoConfig

    complete = AutoConfig.for_model(**config)
    architecture = ARCHITECTURES[complete.model_type]
    writer = gguf.GGUFWriter(str(path), architecture)
    _write_fields(writer, complete, FILE_TYPES[file_type])
    known = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(known, complete.num_hidden_layers)
    for name, tensor in _converted(model, complete).items():
        gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert gguf_name is not None, name
        is_matrix = tensor.dim() >= 2 and "conv1d" not in name
        array = tensor.detach().contiguous().numpy()
        writer.add_tensor(gguf_name, array.astype(np.float16) if is_matrix and file_type == "F16" else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.sync()


def _write_fields(writer: gguf.GGUFWriter, config: Any, file_type: int) -> None:
    """The model's sizes under llama.cpp's keys."""
    writer.add_file_type(file_type)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    rotary = int(config.head_dim * rope.get("partial_rotary_factor", 1.0))
    writer.add_rope_dimension_count(rotary)
    if config.model_type == "qwen3_5_text":
        # Of text every section has the same position, so how the dimensions are divided does not matter.
        third = rotary // 2 // 3
        writer.add_rope_dimension_sections([rotary // 2 - 2 * third, third, third, 0])
        writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
        writer.add_ssm_state_size(config.linear_key_head_dim)
        writer.add_ssm_group_count(config.linear_num_key_heads)
        writer.add_ssm_time_step_rank(config.linear_num_value_heads)
        writer.add_ssm_inner_size(config.linear_value_head_dim * config.linear_num_value_heads)
        writer.add_full_attention_interval(config.layer_types.index("full_attention") + 1)


def _converted(model: LanguageModel, config: Any) -> dict[str, Tensor]:
    """The weights under Hugging Face's names, in llama.cpp's layout."""
    from hybrid_ops.layers.mixers import Attention

    found = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            if config.tie_word_embeddings:
                continue
        elif match := re.match(r"layers\.(\d+)\.mixer\.", name):
            mixer = model.layers[int(match[1])].mixer
            kind = "self_attn" if isinstance(mixer, Attention) else "linear_attn"
            name = f"model.layers.{match[1]}.{kind}.{name[match.end() :]}"
        else:
            name = f"model.{name}"
        changed = _delta_layout(name, tensor, config) if ".linear_attn." in name else _layout(name, tensor, config)
        found[name.replace("dt_bias", "dt_proj.bias")] = changed
    return found


def _layout(name: str, tensor: Tensor, config: Any) -> Tensor:
    """A weight outside of a Gated DeltaNet, as llama.cpp has it."""
    if config.model_type == "llama" and re.search(r"self_attn\.[qk]_proj", name):
        # llama.cpp rotates neighbouring pairs of a head's dimensions, Hugging Face those half a head apart.
        heads = config.num_attention_heads if ".q_proj" in name else config.num_key_value_heads
        return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
    if config.model_type == "qwen3_5_text" and name.endswith("norm.weight"):
        return tensor + 1  # a norm's scale is stored around zero
    return tensor


def _delta_layout(name: str, tensor: Tensor, config: Any) -> Tensor:
    """A weight of a Gated DeltaNet, as llama.cpp has it.

    Hugging Face keeps the value heads of each key head together, llama.cpp the first value head of every key head, then
    the second of every one, so that keys repeat as a whole.
    """
    import torch

    key_heads, value_heads = config.linear_num_key_heads, config.linear_num_value_heads
    values = config.linear_value_head_dim * value_heads

    def by_turns(part: Tensor, dim: int = 0) -> Tensor:
        split = part.unflatten(dim, (key_heads, value_heads // key_heads, part.shape[dim] // value_heads))
        return split.transpose(dim, dim + 1).flatten(dim, dim + 2)

    leaf = name.partition(".linear_attn.")[2]
    if leaf == "A_log":
        return by_turns(-tensor.exp())
    if leaf in ("conv1d.weight", "in_proj_qkv.weight"):
        tensor = tensor.squeeze(1) if leaf == "conv1d.weight" else tensor
        keys, own = tensor.split([tensor.shape[0] - values, values])
        return torch.cat([keys, by_turns(own)])
    if leaf == "out_proj.weight":
        return by_turns(tensor, dim=1)
    if leaf == "norm.weight":
        return tensor
    return by_turns(tensor)  # in_proj_z, in_proj_a, in_proj_b and dt_bias
