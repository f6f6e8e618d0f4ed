"""A model of one base and three attentions: full, sliding-window, and sliding-window with a Mamba-2 history branch.

| file            | what                                                                           |
|-----------------|--------------------------------------------------------------------------------|
| `configuration` | its Hugging Face configuration, `model_type` `hybrid_attention`                |
| `model`         | the decoder, built from vLLM's own layers; one class with the branch, one without |

vLLM decides from the class whether a model keeps recurrent state, before it reads the configuration's fields. So the
model with the branch and the models without have two architectures, which the configuration chooses between.
docs/hybrid_attention.md describes the model, and `hybrid_ops.layers.language_model` is its reference.
"""

from __future__ import annotations


def register() -> None:
    """Make the configuration known to transformers and both architectures to vLLM; the model is imported when used."""
    from vllm import ModelRegistry

    from hybrid_ops.engines.vllm_plugins.hybrid_attention import configuration

    configuration.register()
    for architecture in set(configuration.ARCHITECTURES.values()):
        ModelRegistry.register_model(architecture, f"{__name__}.model:{architecture}")
