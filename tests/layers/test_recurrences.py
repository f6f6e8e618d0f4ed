"""Properties that every recurrent layer has, each on drawn inputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.layers import chunks, convolution, delta_rule, selective_scan, ssd
from tests.layers import checks
from tests.layers.inputs import MAKERS, examples, inputs_of

LAYERS = checks.layers_of(
    {"convolution": convolution, "delta_rule": delta_rule, "selective_scan": selective_scan, "ssd": ssd}
)
CHUNKS = st.sampled_from([1, 3, 16, 20, 32, 64, 100])

every_layer = pytest.mark.parametrize("name", sorted(LAYERS))


@every_layer
@given(data=st.data(), chunk_size=CHUNKS)
def test_all_forms_give_the_papers_recurrence(name, data, chunk_size):
    checks.check_paper(LAYERS[name], data.draw(inputs_of(name)), chunk_size)


@every_layer
@given(data=st.data(), first=CHUNKS, second=CHUNKS)
def test_chunk_size_changes_nothing(name, data, first, second):
    checks.check_chunk_size(LAYERS[name], data.draw(inputs_of(name)), first, second)


@pytest.mark.parametrize("name", ["delta_rule", "ssd"])
@pytest.mark.parametrize("elements", [1, 3000, 2**17])
def test_segments_change_nothing(name, elements, monkeypatch):
    """One chunk a segment, a few, or all in one: only the walk through memory differs."""
    inputs = MAKERS[name](tokens=100)
    expected = checks.run(LAYERS[name].recurrent, inputs)
    monkeypatch.setattr(chunks, "SEGMENT_ELEMENTS", elements)
    actual = checks.run_chunked(LAYERS[name], inputs, 16)
    checks.agree("segments", actual, expected, checks.FLOAT64, checks.magnitude(LAYERS[name], inputs))


@every_layer
@given(data=st.data())
def test_prefill_is_decoding_token_by_token(name, data):
    checks.check_prefill_is_decode(LAYERS[name], data.draw(inputs_of(name)))


@every_layer
@given(data=st.data(), chunk_size=CHUNKS)
def test_a_split_sequence_that_carries_its_state_is_one_pass(name, data, chunk_size):
    inputs = data.draw(inputs_of(name))
    checks.check_split(LAYERS[name], inputs, data.draw(st.integers(0, inputs.tokens)), chunk_size)


@every_layer
@given(data=st.data(), chunk_size=CHUNKS)
def test_the_future_does_not_change_the_past(name, data, chunk_size):
    inputs = data.draw(inputs_of(name))
    checks.check_causality(LAYERS[name], inputs, data.draw(st.integers(0, inputs.tokens)), chunk_size)


@every_layer
@given(data=st.data(), chunk_size=CHUNKS)
def test_batch_rows_do_not_meet_and_may_be_permuted(name, data, chunk_size):
    checks.check_batch(LAYERS[name], data.draw(inputs_of(name)), chunk_size)


@every_layer
@given(data=st.data(), lengths=st.lists(st.integers(0, 20), min_size=1, max_size=4), chunk_size=CHUNKS)
def test_packed_sequences_do_not_meet(name, data, lengths, chunk_size):
    inputs = data.draw(inputs_of(name, tokens=st.just(20)))
    checks.check_packing(LAYERS[name], inputs, lengths, chunk_size)


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@examples(30)
@given(data=st.data(), chunk_size=CHUNKS)
def test_lower_precision_costs_only_its_rounding(name, dtype, data, chunk_size):
    checks.check_dtype(LAYERS[name], data.draw(inputs_of(name)), dtype, chunk_size)


@pytest.mark.parametrize("name", ["delta_rule", "ssd", "selective_scan"])
@examples(12)
@given(data=st.data())
def test_long_sequences_stay_accurate(name, data):
    """The error does not grow with length: 700 tokens in float32 against the float64 recurrent form."""
    layer = LAYERS[name]
    inputs = data.draw(inputs_of(name, tokens=st.just(700))).rows([0])
    scale = checks.run(layer.recurrent, inputs)[0].norm().item()
    expected = checks.run(layer.recurrent, inputs.to(torch.float32).to(torch.float64))
    actual = checks.run_chunked(layer, inputs.to(torch.float32), 64)
    checks.agree("700 tokens", actual, expected, checks.FLOAT32, scale)


@every_layer
def test_no_tokens_leave_the_state_as_it_is(name):
    layer = LAYERS[name]
    inputs = MAKERS[name](tokens=0)
    output, state = checks.run_chunked(layer, inputs, 16)
    assert output.shape[1] == 0
    assert torch.equal(state, inputs.state)


@every_layer
def test_autocast_changes_nothing(name):
    layer, inputs = LAYERS[name], MAKERS[name]().to(torch.float32)
    expected = checks.run_chunked(layer, inputs, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = checks.run_chunked(layer, inputs, 16)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@every_layer
def test_nothing_is_written_in_place(name):
    layer, inputs = LAYERS[name], MAKERS[name]()
    before = {key: tensor.clone() for key, tensor in (inputs.sequences | inputs.parameters).items()}
    state = inputs.state.clone()
    checks.run_chunked(layer, inputs, 16)
    checks.decode(layer, inputs)
    assert torch.equal(inputs.state, state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in (inputs.sequences | inputs.parameters).items())
