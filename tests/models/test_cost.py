"""The closed forms against loops over every token and step, and what must hold between costs."""

import dataclasses
import inspect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.models.configs import config_names
from hybrid_ops.models.cost import (
    BytesMoved,
    Flops,
    attended_keys,
    attended_pairs,
    decode_cost,
    generation_cost,
    prefill_cost,
)
from hybrid_ops.models.families import load_model
from hybrid_ops.models.stack import MixtureOfExperts, Projection

NAMES = config_names()
WINDOWS = st.none() | st.integers(1, 50)


@given(tokens=st.integers(0, 200), window=WINDOWS)
def test_pairs_are_the_ones_of_the_mask(tokens, window):
    mask = [
        (query, key)
        for query in range(tokens)
        for key in range(tokens)
        if key <= query and (window is None or query - key < window)
    ]
    assert attended_pairs(tokens, window) == len(mask)


@given(name=st.sampled_from(NAMES), batch=st.integers(0, 5), prompt=st.integers(1, 700), generation=st.integers(1, 40))
def test_decode_is_the_sum_of_its_steps(name, batch, prompt, generation):
    model = load_model(name)
    cost = decode_cost(model, batch, prompt, generation)
    steps = [decode_cost(model, batch, prompt + step, 2) for step in range(generation - 1)]
    assert cost.tokens == sum(step.tokens for step in steps)
    assert cost.steps == len(steps)
    for part in ("flops", "bytes"):
        for field in dataclasses.fields(getattr(cost, part)):
            added = sum(getattr(getattr(step, part), field.name) for step in steps)
            # The expected number of experts read is rounded to whole bytes, once here and once a step there.
            assert getattr(getattr(cost, part), field.name) == pytest.approx(added, rel=1e-9, abs=generation)


@given(name=st.sampled_from(NAMES), batch=st.integers(1, 4), prompt=st.integers(1, 700), generation=st.integers(2, 9))
def test_one_step_reads_what_its_sequences_keep(name, batch, prompt, generation):
    """A step's reads, from the layers one by one."""
    model = load_model(name)
    last = decode_cost(model, batch, prompt + generation - 2, 2).bytes
    length = prompt + generation - 1
    cached = sum(part.kv_numbers * attended_keys(length, part.window) for part in model.attention)
    state = sum(part.recurrent_state + part.convolution_state for part in model.recurrent)
    weights = sum(layer.norm_parameters for layer in model.layers) + model.hidden + model.head.parameters
    weights += sum(part.weights_read(batch) for part in model.components)
    assert last.cache_read == 2 * batch * cached
    assert last.cache_write == 2 * batch * sum(part.kv_numbers for part in model.attention)
    assert last.state_read == last.state_write == 2 * batch * state
    assert last.weights == round(2 * (weights + batch * model.hidden))


@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(0, 4),
    prompt=st.integers(1, 700),
    steps=st.integers(1, 5),
    cache=st.sampled_from([(None, 2), ("float8_e4m3fn", 1), ("float32", 4)]),
    state=st.sampled_from([(None, None), ("bfloat16", 2), ("float32", 4)]),
    data=st.data(),
)
def test_a_prefill_moves_what_its_sequences_keep(name, batch, prompt, steps, cache, state, data):
    """A prefill's bytes, from the layers one by one, for any data types."""
    model = load_model(name)
    cached = data.draw(st.integers(0, prompt - 1), label="cached")
    moved = prefill_cost(
        model, batch, prompt, cached=cached, steps=steps, cache_dtype=cache[0], state_dtype=state[0]
    ).bytes
    rows, tokens = cache[1] * batch, batch * (prompt - cached)
    assert moved.cache_read == sum(
        rows * part.kv_numbers * min(prompt, part.window or prompt) for part in model.attention
    )
    assert moved.cache_write == sum(rows * part.kv_numbers * (prompt - cached) for part in model.attention)
    convolutions = 2 * sum(part.convolution_state for part in model.recurrent)
    states = sum(part.recurrent_state for part in model.recurrent)
    if state[1]:
        assert moved.state_write == batch * (convolutions + state[1] * states)
    assert moved.state_write == batch * model.state_bytes(state[0])
    assert moved.state_read == (moved.state_write if cached else 0)
    weights = sum(layer.norm_parameters for layer in model.layers) + model.hidden + model.head.parameters
    weights += sum(part.weights_read(math.ceil(tokens / steps)) for part in model.components)
    assert moved.weights == round(2 * (steps * weights + tokens * model.hidden))


@given(
    name=st.sampled_from(NAMES),
    prompt=st.integers(1, 90),
    generation=st.integers(1, 9),
    dtypes=st.sampled_from([{}, {"cache_dtype": "float32"}, {"state_dtype": "float32"}, {"state_dtype": "bfloat16"}]),
    steps=st.integers(1, 3),
    data=st.data(),
)
def test_a_generation_is_its_prefill_and_its_decoding(name, prompt, generation, dtypes, steps, data):
    model, cached = load_model(name), data.draw(st.integers(0, prompt - 1), label="cached")
    whole = generation_cost(model, 3, prompt, generation, cached=cached, prefill_steps=steps, **dtypes)
    assert whole.prefill == prefill_cost(model, 3, prompt, cached=cached, steps=steps, **dtypes)
    assert whole.decode == decode_cost(model, 3, prompt, generation, **dtypes)
    plain = generation_cost(model, 3, prompt, generation).prefill
    assert plain == prefill_cost(model, 3, prompt) == prefill_cost(model, 3, prompt, cached=0, steps=1)
    total = whole.total
    assert (total.tokens, total.steps) == (3 * (prompt - cached + generation - 1), steps + generation - 1)
    assert total.flops.total == whole.prefill.flops.total + whole.decode.flops.total
    assert total.bytes.total == whole.prefill.bytes.total + whole.decode.bytes.total
    assert total.arithmetic_intensity == total.flops.total / total.bytes.total


@given(name=st.sampled_from(NAMES), prompt=st.integers(2, 700), data=st.data())
def test_a_cached_prefix_saves_its_own_cost(name, prompt, data):
    model = load_model(name)
    cached = data.draw(st.integers(1, prompt - 1))
    whole, prefix = prefill_cost(model, 1, prompt).flops, prefill_cost(model, 1, cached).flops
    rest = prefill_cost(model, 1, prompt, cached=cached).flops
    assert rest.total + prefix.total == whole.total + prefix.head  # the prefix alone would sample a token too


@given(name=st.sampled_from(NAMES), batch=st.integers(1, 64), factor=st.integers(2, 9))
def test_weights_are_read_once_a_step(name, batch, factor):
    """More sequences a step read no more weights, but for experts that fewer sequences left alone."""
    model = load_model(name)
    few, many = (decode_cost(model, count, 10, 11).bytes.weights for count in (batch, batch * factor))
    rows = 2 * 10 * batch * (factor - 1) * model.hidden
    mixtures = [part for part in model.components if isinstance(part, MixtureOfExperts)]
    if not mixtures:
        assert many - few == rows
    everything = 2 * 10 * model.parameters
    assert few <= many <= everything + rows + 2 * 10 * batch * model.hidden + _borrowed(model)


def _borrowed(model):
    return 2 * 10 * sum(part.weights for part in model.components if part.reuses_weights)


def test_experts_read_under_uniform_routing():
    mixture = MixtureOfExperts(experts=8, active=2, expert=(Projection("up", 3, 5),))
    assert mixture.weights_read(1) == pytest.approx(2 * 15)
    assert mixture.weights_read(10_000) == pytest.approx(8 * 15)
    assert mixture.active_weights == 2 * 15


class CountedInt(int):
    """A whole number that counts the operations made with it and with what comes of it."""

    operations = 0


def _counted(name):
    def operate(self, *others):
        CountedInt.operations += 1
        result = getattr(int, name)(self, *(int(other) if isinstance(other, CountedInt) else other for other in others))
        return CountedInt(result) if isinstance(result, int) and not isinstance(result, bool) else result

    return operate


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "neg", "le", "lt", "ge", "gt"):
    setattr(CountedInt, f"__{_name}__", _counted(f"__{_name}__"))


@pytest.mark.parametrize("name", NAMES)
def test_operations_do_not_grow_with_tokens_or_requests(name):
    """A 1,000-request batch of 32,000 tokens costs as many operations to account for as one token of one request."""
    model = load_model(name)

    def operations(batch, prompt, generation):
        CountedInt.operations = 0
        generation_cost(model, CountedInt(batch), CountedInt(prompt), CountedInt(generation))
        return CountedInt.operations

    assert operations(1000, 32_000, 32_000) <= operations(1, 1024, 2) + 10 < 200


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch": -1, "prompt": 1},
        {"batch": 1, "prompt": 0},
        {"batch": 1, "prompt": 4, "cached": 4},
        {"batch": 1, "prompt": 4, "cached": -1},
        {"batch": 1, "prompt": 4, "steps": 0},
    ],
)
def test_no_such_prefill(arguments):
    with pytest.raises(ValueError, match="no prefill"):
        prefill_cost(load_model("llama-tiny"), **arguments)


@pytest.mark.parametrize("arguments", [(1, 1, 0), (1, 0, 1), (-1, 1, 1)])
def test_no_such_decode(arguments):
    with pytest.raises(ValueError, match="no decode"):
        decode_cost(load_model("llama-tiny"), *arguments)


def test_costs_of_nothing():
    cost = decode_cost(load_model("llama-tiny"), 4, 100, 1)
    assert cost.flops.total == cost.bytes.total == 0
    assert cost.arithmetic_intensity == 0
    assert math.isfinite(generation_cost(load_model("llama-tiny"), 4, 100, 1).total.arithmetic_intensity)


@pytest.mark.parametrize("kind", [Flops, BytesMoved])
def test_a_total_is_the_sum_of_its_parts_and_what_is_not_given_is_nothing(kind):
    assert dataclasses.astuple(kind()) == (0,) * 5
    digits = kind(*(10**place for place in range(5)))
    assert digits.total == 11111
    assert (digits + digits).total == 22222
    assert digits + kind() == digits


@pytest.mark.parametrize("function", [prefill_cost, decode_cost, generation_cost])
def test_counts_that_could_be_mistaken_for_each_other_are_given_by_name(function):
    positional = {"prefill_cost": 3}.get(function.__name__, 4)
    parameters = list(inspect.signature(function).parameters.values())
    assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters[:positional])
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[positional:])
