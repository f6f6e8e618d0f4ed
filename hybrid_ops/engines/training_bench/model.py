"""transformers' model of a configuration, with the weights that training begins from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hybrid_ops.engines.training_bench.plan import Plan, Settings
from hybrid_ops.engines.vllm_plugins.seeded_weights import fill_parameter


def build(folder: Path, plan: Plan, settings: Settings) -> Any:
    """The model of `folder`/config.json in training mode, on its device and in the type of its weights.

    Its weights are those of the folder's safetensors, or drawn from seeds where there are none. Raises ValueError for a
    configuration that transformers does not know.
    """
    import transformers

    options: dict[str, Any] = {
        "dtype": weights_type(plan),
        "experts_implementation": settings.experts,
    }
    if settings.attention is not None:
        options["attn_implementation"] = settings.attention
    if any(folder.glob("*.safetensors")):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    else:
        config = transformers.AutoConfig.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_config(config, **options)
        for name, parameter in model.named_parameters():
            module = model.get_submodule(name.rpartition(".")[0])
            fill_parameter(name, type(module).__name__, parameter, seed=f"{plan.seed}:{name}")
    model = model.to(settings.device, weights_type(plan)).train()
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def weights_type(plan: Plan) -> torch.dtype:
    """The type of weights, gradients and what the optimizer keeps."""
    return torch.bfloat16 if plan.precision == "bfloat16" else torch.float32
