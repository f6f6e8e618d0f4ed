"""The configuration of the suite's own model, and the names of its weights: no engine is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

from hybrid_ops.engines.vllm_plugins.hybrid_attention import configuration  # noqa: E402
from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import HybridAttentionConfig  # noqa: E402
from hybrid_ops.layers.language_model import from_config  # noqa: E402
from tests.engines.hybrid_models import SIZES, WINDOW, checkpoint  # noqa: E402
from tests.models.twins import transformers_config  # noqa: E402


@pytest.mark.parametrize(
    ("attention", "architecture", "window"),
    [
        ("full", "SoftmaxAttentionForCausalLM", None),
        ("sliding", "SoftmaxAttentionForCausalLM", WINDOW),
        ("hybrid", "HybridAttentionForCausalLM", WINDOW),
    ],
)
def test_autoconfig_reads_what_was_saved(attention: str, architecture: str, window: int | None, tmp_path: Path) -> None:
    configuration.register()
    HybridAttentionConfig(attention=attention, architectures=["Other"], **SIZES).save_pretrained(tmp_path)
    loaded = transformers.AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, HybridAttentionConfig)
    assert (loaded.architectures, loaded.sliding_window) == ([architecture], window)
    assert loaded.rope_parameters["rope_theta"] == SIZES["rope_theta"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": "partial"}, "attention: 'partial' is not one of full, sliding, hybrid"),
        ({"sliding_window": 0}, "sliding_window: 0 is not a number of tokens"),
        ({"attention": "sliding", "sliding_window": None}, "sliding_window: None is not a number of tokens"),
        ({"hidden_act": "gelu"}, "hidden_act: 'gelu' is not implemented"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        HybridAttentionConfig(**{**SIZES, **fields})


@pytest.mark.parametrize("attention", ["full", "sliding"])
def test_weights_have_the_names_of_llama(attention: str) -> None:
    config = HybridAttentionConfig(attention=attention, **SIZES)
    llama = transformers.AutoModelForCausalLM.from_config(transformers_config(config.to_dict() | {"attention": "full"}))
    model = from_config(config)
    assert checkpoint(model).keys() == llama.state_dict().keys()
    model.load_transformers(llama.state_dict())
