"""The architectures of transformers that have the layers of the suite's own model: what its accounts are held against.

With full attention it is Llama, with a sliding window Mistral, and with the history branch Falcon-H1, whose attention
has no window: equal in parameters, and in FLOPs and outputs of sequences that are no longer than the window.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

TWINS = {"full": "llama", "sliding": "mistral", "hybrid": "falcon_h1"}


def transformers_config(config: dict[str, Any], **changes: Any) -> transformers.PretrainedConfig:
    """transformers' configuration of a `config.json`, that of its twin if the model is the suite's own."""
    fields = {**(twin(config) if config["model_type"] == "hybrid_attention" else config), **changes}
    return transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)


def twin(config: dict[str, Any]) -> dict[str, Any]:
    """The `config.json` of the twin of a configuration of the suite's own model."""
    fields = {**config, "model_type": TWINS[config["attention"]], "architectures": None}
    if config["attention"] == "hybrid":
        fields |= {
            "mamba_d_ssm": config["num_attention_heads"] * config["head_dim"],
            "mamba_n_heads": config["num_attention_heads"],
            "mamba_d_head": config["head_dim"],
            "mamba_n_groups": 1,
            "mamba_d_conv": 4,
            "mamba_rms_norm": True,
            "mamba_norm_before_gate": False,
        }
    return fields


def twin_weights(model: torch.nn.Module, attention: str) -> dict[str, torch.Tensor]:
    """The weights of a twin by the names of the suite's own model."""
    names = {"pre_ff_layernorm": "post_attention_layernorm", "feed_forward": "mlp", "final_layernorm": "norm"}
    weights = model.state_dict()
    if attention == "hybrid":
        for old, new in names.items():
            weights = {name.replace(f".{old}.", f".{new}."): weight for name, weight in weights.items()}
    return weights
