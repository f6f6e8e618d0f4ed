"""Reading configurations: where they are found, what they mean, and what is said of a bad one."""

import json

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.models.configs import config_names, find_config, load_config
from hybrid_ops.models.families import READERS, load_model, read_model
from hybrid_ops.models.zoo import load_zoo


def test_the_zoo_has_every_family():
    assert {load_config(name)["model_type"] for name in config_names()} == set(READERS)


def test_every_entry_of_the_zoo_is_read():
    # The layers by themselves are no model: their configuration is a shape.
    models = [entry for entry in load_zoo().values() if entry.engine != "layers"]
    assert len(models) == len(load_zoo()) - 1
    for entry in models:
        assert load_model(entry.config_path).parameters > 0


def test_a_file_and_its_folder(tmp_path):
    config = load_config("llama-tiny")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_config(tmp_path) == find_config(tmp_path / "config.json")
    assert load_model(tmp_path).parameters == load_model("llama-tiny").parameters
    assert load_model(tmp_path).source == str(tmp_path / "config.json")


def test_layers_in_words():
    kinds = [layer.kind for layer in load_model("nemotron-h-tiny").layers]
    assert kinds == ["mamba-2", "feed-forward", "mamba-2", "full attention", *["feed-forward", "mamba-2"] * 2]
    assert {layer.kind for layer in load_model("falcon-h1-7b").layers} == {"full attention and mamba-2 in parallel"}


def test_multimodal_configurations_are_read_for_their_text():
    text = load_config("qwen3.5-tiny")
    whole = {"model_type": "qwen3_5", "text_config": text, "vision_config": {}}
    assert read_model(whole).parameters == read_model(text).parameters


def test_engines_lower_float32():
    config = load_config("llama-tiny")
    assert read_model(config | {"dtype": "float32"}).dtype == "bfloat16"
    assert read_model(config | {"dtype": "float16"}).dtype == "float16"
    assert read_model({**config, "dtype": None, "torch_dtype": "float16"}).dtype == "float16"


BAD_FIELDS = {
    "missing": ("llama-tiny", {"hidden_size": None}, "hidden_size: missing"),
    "a word": (
        "llama-tiny",
        {"num_attention_heads": "many"},
        "num_attention_heads: expected a whole number of at least 1, found 'many'",
    ),
    "negative": (
        "mamba-tiny",
        {"num_hidden_layers": -1},
        "num_hidden_layers: expected a whole number of at least 1, found -1",
    ),
    "unknown architecture": (
        "llama-tiny",
        {"model_type": "abacus"},
        "model_type: unknown architecture 'abacus'; known: ",
    ),
    "unknown layer": (
        "gemma3-tiny",
        {"layer_types": ["magic"] * 6},
        "layer_types: unknown layer type 'magic'; known: ",
    ),
    "unknown letter": (
        "nemotron-h-tiny",
        {"hybrid_override_pattern": "M-M?-M-M"},
        "hybrid_override_pattern: unknown layer type '?'; known: M, *",
    ),
    "no list of layers": (
        "olmo-hybrid-tiny",
        {"layer_types": 5},
        "layer_types: expected a list of layer types, found 5",
    ),
    "too few layers": (
        "lfm2-tiny",
        {"layer_types": ["conv"]},
        "layer_types: 1 layer types for num_hidden_layers = 4",
    ),
    "no layers": ("zamba2-tiny", {"layers_block_type": None}, "layers_block_type: missing"),
    "heads that do not divide": (
        "qwen3-tiny",
        {"num_key_value_heads": 3},
        "num_key_value_heads: 3 does not divide num_attention_heads = 4",
    ),
    "groups that do not divide": (
        "nemotron-h-tiny",
        {"n_groups": 3},
        "n_groups: 3 does not divide mamba_num_heads = 8",
    ),
    "heads that do not fill": (
        "mamba2-tiny",
        {"num_heads": 7},
        "head_dim: 7 heads of 64 do not make expand × hidden_size = 512",
    ),
    "inner size": (
        "falcon-h1-tiny",
        {"mamba_d_ssm": 500},
        "mamba_d_head: 8 heads of 64 do not make the inner size of 500",
    ),
    "value heads": (
        "qwen3-next-tiny",
        {"linear_num_value_heads": 3},
        "linear_num_value_heads: 3 is no multiple of linear_num_key_heads = 2",
    ),
    "unknown attention": (
        "attention-hybrid-tiny",
        {"attention": "partial"},
        "attention: 'partial' is not one of full, sliding, hybrid",
    ),
    "data type": ("llama-tiny", {"dtype": "int3"}, "dtype: unknown data type 'int3'; known: "),
}


@pytest.mark.parametrize(("name", "changes", "message"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_bad_fields_are_named(tmp_path, name, changes, message):
    path = tmp_path / "config.json"
    config = {field: value for field, value in (load_config(name) | changes).items() if value is not None}
    path.write_text(json.dumps(config))
    with pytest.raises(InputError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file: "),
        ("[]", "expected a JSON object, found list"),
        ("{}", "model_type: missing"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_no_such_model():
    with pytest.raises(InputError, match=r"llama-9t: no such file, and no such model in the zoo \(attention-full-1b, "):
        load_config("llama-9t")
