"""Wrong arguments raise errors whose message starts with the argument's name."""

import pytest
import torch

from hybrid_ops.layers import masks
from hybrid_ops.layers.attention import attention, block_sparse_attention, sliding_window_attention
from hybrid_ops.layers.convolution import causal_convolution, step_causal_convolution
from hybrid_ops.layers.delta_rule import chunked_delta_rule, recurrent_delta_rule, step_delta_rule
from hybrid_ops.layers.norms import gated_rms_norm, l2_normalise, rms_norm
from hybrid_ops.layers.rotary import apply_rotary, rotary_frequencies
from hybrid_ops.layers.selective_scan import chunked_selective_scan, recurrent_selective_scan, step_selective_scan
from hybrid_ops.layers.ssd import chunked_ssd, recurrent_ssd, step_ssd
from tests.layers.inputs import MAKERS


def arguments(name: str, step: bool = False) -> dict:
    inputs = MAKERS[name](batch=1, tokens=6)
    if step:
        sequences = {key: tensor[:, 0] for key, tensor in inputs.sequences.items()}
        return sequences | inputs.parameters | {"state": inputs.state}
    return inputs.sequences | inputs.parameters | {"initial_state": inputs.state}


SEQUENCES = [
    ("delta_rule", chunked_delta_rule),
    ("delta_rule", recurrent_delta_rule),
    ("ssd", chunked_ssd),
    ("ssd", recurrent_ssd),
    ("selective_scan", chunked_selective_scan),
    ("selective_scan", recurrent_selective_scan),
    ("convolution", causal_convolution),
]
STEPS = [
    ("delta_rule", step_delta_rule),
    ("ssd", step_ssd),
    ("selective_scan", step_selective_scan),
    ("convolution", step_causal_convolution),
]
CALLS = [(form, arguments(name)) for name, form in SEQUENCES] + [(form, arguments(name, True)) for name, form in STEPS]
EVERY_TENSOR = [(form, given, name) for form, given in CALLS for name in given]


def label(value) -> str:
    return value.__name__ if callable(value) else value if isinstance(value, str) else ""


@pytest.mark.parametrize(("form", "given", "name"), EVERY_TENSOR, ids=label)
def test_each_tensors_rank_size_dtype_and_device(form, given, name):
    def refused(error: type[Exception], value: object) -> None:
        with pytest.raises(error, match=r"^\w+: ") as caught:
            form(**given | {name: value})
        # A size is bound by the first tensor that shows it, so another one may be the first to disagree.
        assert str(caught.value).split(":")[0] in given

    tensor = given[name]
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        form(**given | {name: tensor[None]})
    with pytest.raises(TypeError, match=rf"^{name}: expected a floating dtype"):
        form(**given | {name: tensor.long()})
    with pytest.raises(TypeError, match=rf"^{name}: expected a tensor"):
        form(**given | {name: tensor.tolist()})
    refused(ValueError, tensor.to("meta"))
    refused(ValueError, torch.cat([tensor, tensor], dim=-1))


@pytest.mark.parametrize(
    ("form", "given", "name", "value"),
    [
        (form, given, name, value)
        for form, given in CALLS
        for name, value in (("beta", 2.1), ("beta", -0.1), ("log_decay", 0.1), ("dt", -0.1), ("A", 0.1))
        if name in given
    ],
    ids=label,
)
def test_gates_out_of_range(form, given, name, value):
    changed = given[name].clone()
    changed.view(-1)[-1] = value
    with pytest.raises(ValueError, match=rf"^{name}: values must lie in"):
        form(**given | {name: changed})


def test_keys_that_would_make_the_memory_grow():
    given = arguments("delta_rule")
    given["key"] = 3 * torch.ones_like(given["key"])
    chunked_delta_rule(**given)
    with pytest.raises(ValueError, match=r"^key: values must lie in"):
        chunked_delta_rule(**given, normalise=False)


@pytest.mark.parametrize("form", [chunked_delta_rule, recurrent_delta_rule], ids=label)
def test_the_bound_of_keys_allows_for_their_rounding_and_no_more(form):
    """β‖k‖² of 2.008, which bfloat16 makes of a unit key, and not of 2.02; with β and length of one head and token."""
    given = arguments("delta_rule")
    unit = given["key"] / given["key"].norm(dim=-1, keepdim=True)
    given["beta"] = torch.full_like(given["beta"], 0.5)
    given["beta"][0, 3, 3] = 2.0
    form(**given | {"key": unit * 1.004**0.5}, normalise=False)
    longer = unit.clone()
    longer[0, 3, 1] *= 1.01**0.5  # the key of value heads 2 and 3
    with pytest.raises(ValueError, match=r"^key: values must lie in \[0, 2.01\]"):
        form(**given | {"key": longer}, normalise=False)


@pytest.mark.parametrize(("name", "form"), SEQUENCES, ids=label)
def test_packed_boundaries(name, form):
    given = arguments(name)
    for boundaries, error in [
        ([0, 3, 6], TypeError),
        (torch.tensor([0.0, 6.0]), TypeError),
        (torch.tensor([6]), ValueError),
        (torch.tensor([0, 5]), ValueError),
        (torch.tensor([1, 6]), ValueError),
        (torch.tensor([0, 4, 3, 6]), ValueError),
    ]:
        with pytest.raises(error, match=r"^cu_seqlens: "):
            form(**given, cu_seqlens=boundaries)
    with pytest.raises(ValueError, match=r"^initial_state: expected one state for each of the 2"):
        form(**given, cu_seqlens=torch.tensor([0, 2, 6]))
    two_rows = {key: torch.cat([x, x]) if key not in MAKERS[name]().parameters else x for key, x in given.items()}
    with pytest.raises(ValueError, match=r"^cu_seqlens: packed sequences need a batch of 1"):
        form(**two_rows, cu_seqlens=torch.tensor([0, 2, 6]))


@pytest.mark.parametrize("form", [chunked_delta_rule, chunked_ssd, chunked_selective_scan], ids=label)
def test_chunk_size(form):
    given = next(given for call, given in CALLS if call is form)
    for value, error in [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)]:
        with pytest.raises(error, match=r"^chunk_size: "):
            form(**given, chunk_size=value)


def test_head_counts_and_mixed_dtypes():
    given = arguments("delta_rule")
    with pytest.raises(ValueError, match=r"^value: its head count 3"):
        chunked_delta_rule(
            given["query"], given["key"], given["value"][:, :, :3], beta=given["beta"][:, :, :3], log_decay=None
        )
    with pytest.raises(TypeError, match=r"^key: has dtype"):
        chunked_delta_rule(given["query"], given["key"].float(), given["value"], beta=given["beta"])
    x = torch.randn(1, 4, 6, 8)
    with pytest.raises(ValueError, match=r"^query: its head count 6"):
        attention(x, x[:, :, :4], x[:, :, :4])
    with pytest.raises(TypeError, match=r"^value: has dtype"):
        attention(x, x, x.double())


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("value", lambda x: attention(x, x, x[:, :3])),
        ("query_offset", lambda x: attention(x, x, x, query_offset=torch.tensor([1, 2]))),
        ("query_offset", lambda x: attention(x, x, x, query_offset=1, cu_seqlens=torch.tensor([0, 4]))),
        ("cu_seqlens", lambda x: attention(x[:, :2], x, x, cu_seqlens=torch.tensor([0, 4]))),
        ("window", lambda x: sliding_window_attention(x, x, x, window=0)),
        ("block_size", lambda x: sliding_window_attention(x, x, x, window=2, block_size=0)),
        ("block_size", lambda x: block_sparse_attention(x, x, x, block_size=0)),
        ("value", lambda x: block_sparse_attention(x, x, x[:, :3])),
        ("window", lambda x: masks.sliding_window(0)),
        ("prefix_length", lambda x: masks.prefix_lm(-1)),
        ("prefix_length", lambda x: masks.prefix_lm(x)),
        ("document_of", lambda x: masks.document(x)),
        ("heads", lambda x: masks.alibi_slopes(6)),
        ("cap", lambda x: masks.tanh_softcap(0.0)),
        ("cap", lambda x: masks.tanh_softcap_approximate(0.0)),
        ("gate", lambda x: gated_rms_norm(x, x[:, :2], None, epsilon=1e-5, order="norm_before_gate")),
        ("order", lambda x: gated_rms_norm(x, x, None, epsilon=1e-5, order="both")),
        ("group_size", lambda x: gated_rms_norm(x, x, None, epsilon=1e-5, order="norm_before_gate", group_size=3)),
        ("weight", lambda x: rms_norm(x, x[0, 0, 0, :2], epsilon=1e-5)),
        ("epsilon", lambda x: rms_norm(x, None, epsilon=-1.0)),
        ("epsilon", lambda x: l2_normalise(x, epsilon=0.0)),
        ("rotary_size", lambda x: rotary_frequencies(3, theta=1e4)),
        ("theta", lambda x: rotary_frequencies(4, theta=1.0)),
        ("scaling", lambda x: rotary_frequencies(4, theta=1e4, scaling={"rope_type": "yarn"})),
        ("frequencies", lambda x: apply_rotary(x, torch.arange(4), rotary_frequencies(10, theta=1e4))),
        ("positions", lambda x: apply_rotary(x, torch.arange(3), rotary_frequencies(8, theta=1e4))),
        ("activation", lambda x: causal_convolution(x[0], x[0, 0].T, activation="relu")),
    ],
    ids=label,
)
def test_other_arguments(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call(torch.randn(1, 4, 4, 8))
