"""Every field that the reader of a configuration uses is varied, and the logits are transformers' for each value.

The first tests list by introspection what `from_config` reads, and every option of a mixer, a block and the model that
it sets: one that is never varied fails them.
"""

import copy
import functools
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybrid_ops.layers import blocks, language_model, mixers
from hybrid_ops.layers.language_model import from_config
from tests.layers.checks import expect, relative_error
from tests.layers.configurations import KINDS, Fields, build, build_reference, for_twin
from tests.layers.inputs import examples
from tests.layers.test_models import DEEP, shaken
from tests.models.twins import twin_weights

every_kind = pytest.mark.parametrize("kind", sorted(KINDS))

REFUSED = {"hidden_act", "hidden_activation", "mamba_hidden_act", "mlp_hidden_act", "use_bidirectional_attention"}
"""Fields of which the reader knows one value and refuses any other, which the last test here shows."""
FIXED = {
    "model_type": "it chooses the architecture",
    "SandwichNormBlock.offset": "Gemma alone has such blocks, and all its norms have weights around zero",
}


class Recorder:
    """A configuration that notes which of its fields are read, and their values."""

    def __init__(self, config: Any, seen: dict[str, set[str]]) -> None:
        self._config, self._seen = config, seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._config, name)
        self._seen[name].add(repr(value))
        for key, inner in value.items() if isinstance(value, Mapping) else ():
            self._seen[f"{name}.{key}"].add(repr(inner))
        return value


@functools.cache
def drawn(kind: str) -> list[Fields]:
    """The same examples each time."""
    found: list[Fields] = []

    @settings(max_examples=50, derandomize=True, database=None)
    @given(KINDS[kind])
    def draw(fields: Fields) -> None:
        found.append(fields)

    draw()
    return found


def test_every_architecture_is_drawn():
    assert set(KINDS) == set(language_model._BUILDERS)


@every_kind
def test_every_field_that_is_read_is_varied(kind):
    seen: dict[str, set[str]] = defaultdict(set)
    for fields in drawn(kind):
        with torch.device("meta"):
            from_config(Recorder(build(kind, fields), seen))
    constant = {name for name, values in seen.items() if len(values) < 2}
    assert constant <= REFUSED | set(FIXED), f"{kind}: never another value of {sorted(constant - REFUSED - set(FIXED))}"


@contextmanager
def recorded_options(seen: dict[str, set[str]]) -> Iterator[None]:
    """Note every argument that a mixer, a block or a model is built with."""
    classes = [
        made
        for module in (mixers, blocks, language_model)
        for _, made in inspect.getmembers(module, inspect.isclass)
        if issubclass(made, nn.Module) and made.__module__ == module.__name__ and "__init__" in vars(made)
    ]

    def recording(made: type, build_one: Any) -> Any:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            bound = inspect.signature(build_one).bind(self, *args, **kwargs)
            bound.apply_defaults()
            for name, value in list(bound.arguments.items())[1:]:
                is_part = isinstance(value, nn.Module | list | torch.Tensor)
                seen[f"{made.__name__}.{name}"].add(f"a {type(value).__name__}" if is_part else repr(value))
            build_one(self, *args, **kwargs)

        return init

    with ExitStack() as stack:
        for made in classes:
            stack.enter_context(patch.object(made, "__init__", recording(made, made.__init__)))
        yield


PARTS = {
    "LanguageModel.blocks",
    "LanguageModel.norm",
    "ParallelBlock.attention",
    "ParallelBlock.mamba",
    "ParallelBlock.mlp",
    "PostNormBlock.mixer",
    "PostNormBlock.mlp",
    "PreNormBlock.mlp",
    "SandwichNormBlock.mixer",
    "SandwichNormBlock.mlp",
    "SlidingWindowHistoryBlock.frequencies",
}
"""Arguments that are parts with options of their own."""


def test_every_option_of_a_module_is_varied():
    seen: dict[str, set[str]] = defaultdict(set)
    with recorded_options(seen), torch.device("meta"):
        for kind in KINDS:
            for fields in drawn(kind):
                from_config(build(kind, fields))
    constant = {name for name, values in seen.items() if len(values) < 2}
    assert constant <= PARTS | set(FIXED), f"never another value of {sorted(constant - PARTS - set(FIXED))}"


def both_models(kind: str, fields: Fields, tokens: int) -> tuple[nn.Module, nn.Module]:
    """transformers' model with shaken weights, and ours with the same."""
    fields = for_twin(kind, fields, tokens)
    reference = shaken(build_reference(kind, fields))
    ours = from_config(build(kind, fields))
    if kind == "nemotron_h" and fields["tie_word_embeddings"]:  # see test_oracle_faults
        reference.lm_head.weight = reference.get_input_embeddings().weight
    weights = reference.state_dict()
    ours.load_transformers(twin_weights(reference, fields["attention"]) if kind == "hybrid_attention" else weights)
    return reference, ours


@every_kind
@examples(8)
@given(data=st.data())
def test_logits_are_transformers_for_every_field(kind, data):
    fields = data.draw(KINDS[kind])
    torch.manual_seed(data.draw(st.integers(0, 2**31), label="weights"))
    reference, ours = both_models(kind, fields, 12)
    tokens = torch.randint(fields["vocab_size"], (2, 12))
    options = {"softcap": fields["attn_logit_softcapping"]} if kind == "gemma3_text" else {}  # see test_oracle_faults
    with torch.no_grad():
        expected = reference(tokens, use_cache=False, **options).logits
        expect("prefill", relative_error(ours(tokens)[0], expected), DEEP)

        # Our own forms agree to the last digits of float64: parts, tokens, and rows one at a time.
        ours.double()
        whole, _ = ours(tokens)
        parts, cache = [], None
        for part in tokens.split([1, 4, 3, 1, 1, 1, 1], dim=1):
            logits, cache = ours(part, cache)
            parts.append(logits)
        expect("parts and tokens", relative_error(torch.cat(parts, dim=1), whole), 1e-10)
        expect("one row", relative_error(ours(tokens[1:])[0], whole[1:]), 1e-10)


@every_kind
@examples(3)
@given(data=st.data())
def test_models_in_bfloat16_and_under_autocast_are_near_themselves_in_float64(kind, data):
    """All dtypes fit together, in prefill and in decoding, and nothing but rounding changes."""
    fields = data.draw(
        KINDS[kind].map(lambda fields: fields | {"num_experts": 0} if "num_experts" in fields else fields)
    )
    torch.manual_seed(0)
    short = from_config(build(kind, fields)).bfloat16()
    wide = copy.deepcopy(short).double()
    tokens = torch.randint(fields["vocab_size"], (2, 12))
    with torch.no_grad():
        exact = wide(tokens)[0]
        for model, enabled in ((short, False), (copy.deepcopy(short).float(), True)):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                prefill, cache = model(tokens[:, :9])
                decoded, cache = model(tokens[:, 9:10], cache)
                rest, _ = model(tokens[:, 10:], cache)
            logits = torch.cat([prefill, decoded, rest], dim=1)
            expect(f"autocast {enabled}", relative_error(logits, exact), 0.06)


@pytest.mark.parametrize("enabled", [True, False])
def test_experts_work_under_autocast(enabled):
    """Their output is bfloat16 then, while the residual stream is float32."""
    mlp = blocks.SparseMLP(8, inner=6, shared_inner=6, experts=3, active=3, normalise=True)
    x = torch.randn(2, 5, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        y = mlp(x)
    expect("experts", relative_error(y, copy.deepcopy(mlp).double()(x.double())), 0.03 if enabled else 1e-5)


@every_kind
def test_other_values_of_refused_fields_are_refused(kind):
    fields = drawn(kind)[0]
    seen: dict[str, set[str]] = defaultdict(set)
    config = build(kind, fields)
    with torch.device("meta"):
        from_config(Recorder(config, seen))
        for name in REFUSED & set(seen):
            right = getattr(config, name)
            setattr(config, name, True if name == "use_bidirectional_attention" else "other")
            with pytest.raises(ValueError, match=name):
                from_config(config)
            setattr(config, name, right)
