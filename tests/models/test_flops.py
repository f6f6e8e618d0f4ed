"""FLOPs against `torch.utils.flop_counter` on transformers' modules, for every family.

What each side counts. The counter counts matrix products, convolutions and attention of the operators that run; we
count the model's work. So the two are equal once these are said:

- projections, experts and the output head: the same on both sides;
- attention: the counter counts every (query, key) pair of the rectangle, we those that the mask lets through. The test
  gives our formula the rectangle's pairs, and `test_cost.py` proves the number of pairs under the mask;
- convolution: the module pads a prompt by width − 1 zeros on both sides and cuts the surplus off, so the counter sees
  T + width − 1 outputs for T tokens; in decoding it keeps width inputs beside the new one and computes two outputs;
- the scan: the module's form of it is a chunked one, of which the counter sees the part written as matrix products.
  What it counts inside the scan functions is taken out, and our count of the recurrence is proved by itself below,
  against the counter on the recurrence written as products (which see the writing and reading of the state, not its
  decay).
"""

import sys

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from hybrid_ops.models.configs import config_names, load_config
from hybrid_ops.models.cost import decode_cost, prefill_cost
from hybrid_ops.models.families import read_model
from hybrid_ops.models.stack import GatedDeltaNet, Mamba1, Mamba2
from tests.models.twins import transformers_config

TINY = [name for name in config_names() if name.endswith("-tiny")]
SCANS = (
    "mamba_selective_scan",
    "mamba_selective_state_update",
    "mamba2_chunk_scan",
    "mamba2_selective_state_update",
    "torch_chunk_gated_delta_rule",
    "torch_recurrent_gated_delta_rule",
)
BATCH, PROMPT = 2, 24


@pytest.fixture(scope="module", params=TINY)
def family(request):
    """(configuration, transformers' module) of one tiny model, in float32, with plain attention and experts."""
    config = load_config(request.param)
    torch.manual_seed(0)
    # Norms have no FLOPs here, and Falcon-H1's gated one fails in decoding: see tests/layers/test_oracle_faults.py.
    module = transformers.AutoModelForCausalLM.from_config(
        transformers_config(config, dtype="float32", mamba_rms_norm=False),
        attn_implementation="eager",
        experts_implementation="eager",
    )
    return config, module.eval()


def count(module, monkeypatch, **inputs):
    """(FLOPs outside scans, FLOPs inside scans, output) that the counter sees in one forward pass."""
    inside = 0
    counter = FlopCounterMode(display=False)
    modeling = sys.modules[type(module).__module__]

    def taken_out(scan):
        def run(*args, **kwargs):
            nonlocal inside
            before = counter.get_total_flops()
            result = scan(*args, **kwargs)
            inside += counter.get_total_flops() - before
            return result

        return run

    for name in SCANS:
        if hasattr(modeling, name):
            monkeypatch.setattr(modeling, name, taken_out(getattr(modeling, name)))
    with torch.no_grad(), counter:
        output = module(**inputs, use_cache=True)
    return counter.get_total_flops() - inside, inside, output


def square_attention(model, queries, keys):
    """Our attention FLOPs with every pair of the rectangle, for one sequence."""
    return sum(part.pair_flops * queries * keys for part in model.attention)


def test_prefill_equals_the_counter(family, monkeypatch):
    config, module = family
    model = read_model(config)
    outside, _, _ = count(module, monkeypatch, input_ids=torch.zeros(BATCH, PROMPT, dtype=torch.long))
    ours = prefill_cost(model, BATCH, PROMPT).flops
    surplus = sum(2 * part.channels * part.kernel * (part.kernel - 1) for part in model.recurrent)
    expected = (
        ours.projections
        + ours.convolution
        + BATCH * surplus
        + BATCH * square_attention(model, PROMPT, PROMPT)
        + PROMPT * ours.head  # the module computes the logits of every token, we those of the last
    )
    assert outside == expected


def test_decode_equals_the_counter(family, monkeypatch):
    config, module = family
    model = read_model(config)
    with torch.no_grad():
        cache = module(input_ids=torch.zeros(BATCH, PROMPT, dtype=torch.long), use_cache=True)
    # Pure recurrent models name their cache otherwise.
    cache_field = "past_key_values" if "past_key_values" in cache else "cache_params"
    outside, _, _ = count(
        module, monkeypatch, input_ids=torch.zeros(BATCH, 1, dtype=torch.long), **{cache_field: cache[cache_field]}
    )
    ours = decode_cost(model, BATCH, PROMPT, 2).flops
    # One query: the rectangle is the mask's, as long as no window is full.
    assert all(part.window is None or part.window > PROMPT for part in model.attention)
    assert outside == ours.total - ours.scan + ours.convolution


@pytest.mark.parametrize(
    ("layer", "flops_of_decay"),
    [
        (Mamba1(channels=6, kernel=4, state_matrices=6, state_rows=1, state_columns=16), 1),
        (Mamba2(channels=0, kernel=4, groups=1, state_matrices=3, state_rows=8, state_columns=16), 1),
    ],
    ids=["mamba-1", "mamba-2"],
)
def test_state_space_recurrence_equals_the_counter(layer, flops_of_decay):
    heads, rows, columns, tokens = layer.state_matrices, layer.state_rows, layer.state_columns, 5
    state = torch.zeros(heads, rows, columns)
    with FlopCounterMode(display=False) as counter:
        for _ in range(tokens):
            inputs, key, query = (
                torch.rand(heads, rows, 1),
                torch.rand(heads, 1, columns),
                torch.rand(heads, columns, 1),
            )
            state = 0.9 * state + torch.bmm(inputs, key)
            torch.bmm(state, query)
    decay = tokens * flops_of_decay * state.numel()
    assert tokens * layer.scan_flops == counter.get_total_flops() + decay


def test_gated_delta_recurrence_equals_the_counter():
    layer = GatedDeltaNet(channels=0, kernel=4, key_heads=3, state_matrices=3, state_rows=8, state_columns=16)
    heads, rows, columns, tokens = layer.state_matrices, layer.state_rows, layer.state_columns, 5
    state = torch.zeros(heads, rows, columns)
    with FlopCounterMode(display=False) as counter:
        for _ in range(tokens):
            key, query, value = torch.rand(heads, rows, 1), torch.rand(heads, 1, rows), torch.rand(heads, 1, columns)
            state = 0.9 * state
            correction = 0.5 * (value - torch.bmm(key.mT, state))
            state = state + torch.bmm(key, correction)
            torch.bmm(query, state)
    decay = tokens * state.numel()
    assert tokens * layer.scan_flops == counter.get_total_flops() + decay
