"""What the command line sets anew."""

from __future__ import annotations

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.measure.procedures import read_suites
from hybrid_ops.models.configs import load_config
from hybrid_ops.workloads.batch import ClosedBatch
from hybrid_ops.workloads.comparison import ATTENTIONS, Comparison
from hybrid_ops.workloads.overrides import parse_overrides


def test_the_shipped_comparison_has_the_suites_defaults() -> None:
    [comparison] = read_suites().of_kind(Comparison).values()
    assert comparison.prompt_tokens == [512, 1024, 2048, 4096]
    assert (comparison.num_prompts, comparison.generation_tokens, comparison.seed) == (100, 128, 42)
    assert (comparison.warmup_iterations, comparison.timed_iterations) == (3, 10)
    for models in comparison.models.values():
        assert tuple(models) == ATTENTIONS
    assert comparison.on("cuda") == comparison
    assert comparison.on("cpu").num_prompts < comparison.num_prompts


def test_a_field_set_counts_on_every_platform() -> None:
    suites = parse_overrides(["num_prompts=20", "prompt_tokens=256"]).apply(read_suites(), "hybrid-attention")
    [comparison] = suites.of_kind(Comparison).values()
    assert comparison.on("cpu").num_prompts == 20
    assert comparison.on("cpu").timed_iterations < comparison.timed_iterations
    assert comparison.prompt_tokens == [256]


def test_only_the_workloads_of_the_suite_that_have_the_field_change() -> None:
    suites = read_suites()
    changed = parse_overrides(["timed_iterations=1", "sampling={temperature: 0.5}"]).apply(suites, "quick")
    batches = changed.of_kind(ClosedBatch)
    assert batches["short"].timed_iterations == 1
    assert batches["short"].sampling.temperature == 0.5
    untouched = ("long", "kv-cache", "prefix-cache", "rollout")
    assert [changed.definitions[name] for name in untouched] == [suites.definitions[name] for name in untouched]


def test_another_base_model_gives_a_comparison_its_shape() -> None:
    overrides = parse_overrides(["model=llama-3.2-3b", "config.sliding_window=2048"])
    hybrid = load_config("attention-hybrid-tiny")
    changes = overrides.config_changes(hybrid, has_base_model=True)
    base = load_config("llama-3.2-3b")
    assert {name: changes[name] for name in ("hidden_size", "num_hidden_layers", "vocab_size")} == {
        name: base[name] for name in ("hidden_size", "num_hidden_layers", "vocab_size")
    }
    assert changes["sliding_window"] == 2048
    assert not changes.keys() & {"architectures", "model_type", "attention", "mamba_d_state"}
    assert overrides.config_changes(hybrid, has_base_model=False) == {"sliding_window": 2048}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_prompts", "FIELD=VALUE, arg.NAME=VALUE or config.NAME=VALUE, not 'num_prompts'"),
        ("num_prompts=", "FIELD=VALUE, arg.NAME=VALUE or config.NAME=VALUE, not 'num_prompts='"),
        ("env.X=1", "FIELD=VALUE, arg.NAME=VALUE or config.NAME=VALUE, not 'env.X=1'"),
        ("arg.x={", "--perf-set: arg.x: not a value in YAML: '{'"),
        ("model=mamba-tiny", "mamba-tiny: no base of attention layers: it has no num_attention_heads"),
        ("prompt_tokens=256,0", r"--perf-set: prompt_tokens.1: Input should be greater than 0 \(given: 0\)"),
        ("models=x", "has a field 'models'"),
    ],
)
def test_bad_input_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_overrides([text]).apply(read_suites(), "hybrid-attention")
    assert "\n" not in str(caught.value)


def test_a_suite_without_a_comparison_has_no_base_model() -> None:
    with pytest.raises(InputError, match="only a comparison has a base model, and the suite quick has none"):
        parse_overrides(["model=llama-tiny"]).apply(read_suites(), "quick")
