"""Calls of every public function of the layers, with every parameter drawn, and what the papers' loops give for them.

A strategy draws a `Call`: the arguments by name, and the expected result as a function that is only called where it is
needed. `test_parameters` holds each call against it, and fails where a parameter is not here or never takes another
value.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from hybrid_ops.layers import attention, convolution, delta_rule, masks, norms, rotary, selective_scan, ssd
from tests.layers import papers
from tests.layers.inputs import DECAY_REGIMES, log_decays

few, some = st.integers(1, 2), st.integers(1, 4)
seeds = st.integers(0, 2**31)
caps = st.sampled_from([0.5, 2.0, 30.0])
scales = st.none() | st.sampled_from([0.3, 1.0, 1.7])
epsilons = st.sampled_from([1e-6, 1e-2, 0.7])


@dataclass(frozen=True)
class Call:
    """Arguments by name, what they should give, and how to read the result (of a function that makes a function)."""

    arguments: dict[str, Any]
    expected: Callable[[], Any]
    read: Callable[[Any], Any] = lambda result: result

    def shortest(self, function: Callable) -> dict[str, Any]:
        """The arguments without those that have the value that they should have by default."""
        parameters = inspect.signature(function).parameters
        return {
            name: value
            for name, value in self.arguments.items()
            if parameters[name].default is inspect.Parameter.empty
            or isinstance(value, Tensor)
            or value != DEFAULTS.get(name)
        }


DEFAULTS = {"block_size": 128, "epsilon": 1e-6, "mask_mod": masks.causal, "normalise": True, "offset": 0.0}
"""The values of parameters that are not given, as the docstrings have them; of all others None."""


class Normal:
    """Tensors of a drawn seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def steps(self, *shape: int) -> Tensor:
        """Δ above 0, and exactly 0 for one in eight."""
        return torch.nn.functional.softplus(self(*shape)) * (self.uniform(*shape) > 0.125)


def sizes(draw, form: str) -> tuple[int, int, int, Tensor | None]:
    """Batch, tokens, the number of states, and `cu_seqlens` where the sequences are packed."""
    if form == "step":
        batch = draw(st.integers(1, 3))
        return batch, 1, batch, None
    if draw(st.booleans(), label="packed"):
        lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
        return 1, sum(lengths), len(lengths), torch.tensor([0, *lengths]).cumsum(0)
    batch = draw(few)
    return batch, draw(st.integers(1, 7)), batch, None


def recurrent_call(draw, form: str, paper: Callable, arguments: dict[str, Any], state: Tensor, timeless: set[str]):
    """The call of a recurrence in one of its forms: with or without a first state, packed or not, or as one token."""
    if form == "step":
        expected = partial(paper, **arguments, initial_state=state)
        # Shapes lose the dimension of time: [B, 1, ...] → [B, ...].
        given = {
            name: value[:, 0] if isinstance(value, Tensor) and name not in timeless else value
            for name, value in arguments.items()
            if name != "cu_seqlens"
        }

        def first() -> tuple[Tensor, Tensor]:
            output, final = expected()
            return output[:, 0], final

        return Call({**given, "state": state}, first)
    arguments["initial_state"] = draw(st.sampled_from([None, state]))
    in_order = [arguments[name] for name in arguments if name in ("query", "key", "value", "x", "u", "B", "C")]
    options = {
        name: value for name, value in arguments.items() if name not in ("query", "key", "value", "x", "u", "B", "C")
    }
    if form == "chunked":
        arguments["chunk_size"] = draw(st.integers(1, 6))
    return Call(arguments, partial(paper, *in_order, **options))


@st.composite
def delta_rules(draw, form: str) -> Call:
    normal = Normal(draw(seeds))
    batch, tokens, states, boundaries = sizes(draw, form)
    heads, group, key_size, value_size = draw(few), draw(few), draw(st.integers(2, 4)), draw(some)
    normalise = draw(st.booleans())
    key = normal(batch, tokens, heads, key_size)
    if not normalise:  # β‖k‖² is at most 2
        key = key / key.norm(dim=-1, keepdim=True) * (0.2 + 0.8 * normal.uniform(batch, tokens, heads, 1))
    regime = draw(st.none() | st.sampled_from(DECAY_REGIMES))
    gates = (batch, tokens, heads * group)
    arguments = {
        "query": normal(batch, tokens, heads, key_size),
        "key": key,
        "value": normal(*gates, value_size),
        "beta": 2 * normal.uniform(*gates),
        "log_decay": None if regime is None else log_decays(normal.generator, regime, *gates),
        "scale": draw(scales),
        "normalise": normalise,
        "cu_seqlens": boundaries,
    }
    state = normal(states, heads * group, key_size, value_size)
    return recurrent_call(draw, form, papers.delta_rule, arguments, state, set())


@st.composite
def ssds(draw, form: str) -> Call:
    normal = Normal(draw(seeds))
    batch, tokens, states, boundaries = sizes(draw, form)
    groups, group, head_size, state_size = draw(few), draw(few), draw(some), draw(some)
    heads = groups * group
    arguments = {
        "x": normal(batch, tokens, heads, head_size),
        "B": normal(batch, tokens, groups, state_size),
        "C": normal(batch, tokens, groups, state_size),
        "dt": normal.steps(batch, tokens, heads),
        "A": log_decays(normal.generator, draw(st.sampled_from(DECAY_REGIMES)), heads),
        "D": draw(st.sampled_from([None, normal(heads)])),
        "cu_seqlens": boundaries,
    }
    state = normal(states, heads, head_size, state_size)
    return recurrent_call(draw, form, papers.ssd, arguments, state, {"A", "D"})


@st.composite
def selective_scans(draw, form: str) -> Call:
    normal = Normal(draw(seeds))
    batch, tokens, states, boundaries = sizes(draw, form)
    channels, state_size = draw(some), draw(some)
    arguments = {
        "u": normal(batch, tokens, channels),
        "B": normal(batch, tokens, state_size),
        "C": normal(batch, tokens, state_size),
        "dt": normal.steps(batch, tokens, channels),
        "A": log_decays(normal.generator, draw(st.sampled_from(DECAY_REGIMES)), channels, state_size),
        "D": draw(st.sampled_from([None, normal(channels)])),
        "cu_seqlens": boundaries,
    }
    state = normal(states, channels, state_size)
    return recurrent_call(draw, form, papers.selective_scan, arguments, state, {"A", "D"})


@st.composite
def convolutions(draw, form: str) -> Call:
    normal = Normal(draw(seeds))
    batch, tokens, states, boundaries = sizes(draw, form)
    channels, taps = draw(some), draw(some)
    arguments = {
        "x": normal(batch, tokens, channels),
        "weight": normal(channels, taps),
        "bias": draw(st.sampled_from([None, normal(channels)])),
        "activation": draw(st.sampled_from([None, "silu"])),
        "cu_seqlens": boundaries,
    }
    state = normal(states, channels, taps - 1)
    return recurrent_call(draw, form, papers.causal_convolution, arguments, state, {"weight", "bias"})


Sees = Callable[[int, int, int], bool]
"""Whether a query at a position sees a key at a position, in a batch row: (row, query, key) → bool."""


def drawn_mask(draw, batch: int, positions: int, *, by_row: bool = True) -> tuple[masks.MaskMod | None, Sees]:
    """A mask mod, and the same in Python's own words."""
    kind = draw(st.sampled_from(["none", "causal", "window", "prefix", "prefixes", "document", "document of windows"]))
    window = draw(st.integers(1, 5), label="window")
    if kind == "none":
        return None, lambda row, query, key: True
    if kind == "causal":
        return masks.causal, lambda row, query, key: key <= query
    if kind == "window":
        return masks.sliding_window(window), lambda row, query, key: query - window < key <= query
    if kind == "prefix" or (kind == "prefixes" and not by_row):
        return masks.prefix_lm(window), lambda row, query, key: key < window or key <= query
    if kind == "prefixes":  # a length for each row
        lengths = draw(st.lists(st.integers(0, 6), min_size=batch, max_size=batch))
        return masks.prefix_lm(torch.tensor(lengths)), lambda row, query, key: key < lengths[row] or key <= query
    of = draw(st.lists(st.integers(0, 1), min_size=positions, max_size=positions))
    if kind == "document":
        return masks.document(torch.tensor(of)), lambda row, query, key: of[query] == of[key] and key <= query
    return (
        masks.document(torch.tensor(of), masks.sliding_window(window)),
        lambda row, query, key: of[query] == of[key] and query - window < key <= query,
    )


def drawn_score_mod(draw, normal: Normal, heads: int) -> tuple[masks.ScoreMod | None, float | None, Tensor | None]:
    """A score mod, its cap and its slopes."""
    kind = draw(st.sampled_from(["none", "cap", "slopes"]))
    cap, slopes = draw(caps), normal.uniform(heads)
    if kind == "cap":
        return masks.tanh_softcap(cap), cap, None
    return (masks.alibi(slopes), None, slopes) if kind == "slopes" else (None, None, None)


def attention_by_loop(
    arguments: dict[str, Any], sees: Sees, cap: float | None, slopes: Tensor | None, boundaries: list[int] | None
) -> Tensor:
    """The paper's sum, sequence by sequence where they are packed."""
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    if boundaries is not None:
        cuts = [slice(first, last) for first, last in pairwise(boundaries)]
        parts = [{**arguments, **{n: arguments[n][:, cut] for n in ("query", "key", "value")}} for cut in cuts]
        return torch.cat([attention_by_loop(part, sees, cap, slopes, None) for part in parts], dim=1)
    batch, queries, heads, _ = query.shape
    keys = key.shape[1]
    offset = arguments.get("query_offset")
    offsets = [keys - queries] * batch if offset is None else torch.as_tensor(offset).expand(batch).tolist()
    seen = torch.zeros(batch, heads, queries, keys, dtype=torch.bool)
    bias = torch.zeros(batch, heads, queries, keys, dtype=torch.float64)
    for b in range(batch):
        for i in range(queries):
            for j in range(keys):
                seen[b, :, i, j] = sees(b, offsets[b] + i, j)
                if slopes is not None:
                    bias[b, :, i, j] = slopes * (j - offsets[b] - i)
    return papers.attention(query, key, value, seen, bias=bias, cap=cap, scale=arguments["scale"])


@st.composite
def attentions(draw, form: str) -> Call:
    normal = Normal(draw(seeds))
    batch, key_heads, group, size, value_size = draw(few), draw(few), draw(few), draw(some), draw(some)
    queries, past = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    offset: int | Tensor | None = None
    boundaries = None
    kind = draw(st.sampled_from(["last", "packed", "offset", "offsets"])) if form != "block_sparse" else "last"
    if kind == "packed":
        lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
        boundaries = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
        batch, queries, past = 1, sum(lengths), 0
    if kind == "offset":
        offset = draw(st.integers(0, past + 3))
    if kind == "offsets":
        offset = torch.tensor(draw(st.lists(st.integers(0, past + 3), min_size=batch, max_size=batch)))
    keys = queries + past
    arguments: dict[str, Any] = {
        "query": 2 * normal(batch, queries, key_heads * group, size),
        "key": normal(batch, keys, key_heads, size),
        "value": normal(batch, keys, key_heads, value_size),
        "scale": draw(scales),
    }
    arguments["score_mod"], cap, slopes = drawn_score_mod(draw, normal, key_heads * group)
    if form == "window":
        window = draw(st.integers(1, 6))
        arguments["window"] = window

        def sees(row: int, query: int, key: int) -> bool:
            return query - window < key <= query
    else:
        arguments["mask_mod"], sees = drawn_mask(draw, batch, keys + queries + 4, by_row=form != "block_sparse")
    if form != "dense":
        arguments["block_size"] = draw(st.integers(1, 6))
    if form != "block_sparse":
        arguments["query_offset"] = offset
        arguments["cu_seqlens"] = None if boundaries is None else torch.tensor(boundaries)
    return Call(arguments, partial(attention_by_loop, dict(arguments), sees, cap, slopes, boundaries))


def some_tensor(draw, normal: Normal, width: int) -> Tensor:
    """[..., D] of one to three dimensions."""
    return normal(*draw(st.lists(st.integers(1, 3), max_size=2)), width)


@st.composite
def rms_norms(draw) -> Call:
    normal, width = Normal(draw(seeds)), draw(st.integers(1, 6))
    arguments = {
        "x": 0.3 * some_tensor(draw, normal, width),
        "weight": draw(st.sampled_from([None, normal(width)])),
        "epsilon": draw(epsilons),
        "offset": draw(st.sampled_from([0.0, 1.0, -0.4])),
    }
    return Call(arguments, partial(papers.rms_norm, **arguments))


@st.composite
def gated_norms(draw) -> Call:
    normal, group = Normal(draw(seeds)), draw(some)
    width = group * draw(some)
    x = 0.3 * some_tensor(draw, normal, width)
    arguments = {
        "x": x,
        "gate": normal(*x.shape),
        "weight": draw(st.sampled_from([None, normal(width)])),
        "epsilon": draw(epsilons),
        "order": draw(st.sampled_from(["norm_before_gate", "gate_before_norm"])),
        "group_size": draw(st.sampled_from([None, group])),
    }
    return Call(arguments, partial(papers.gated_rms_norm, **arguments))


@st.composite
def l2_norms(draw) -> Call:
    arguments = {"x": some_tensor(draw, Normal(draw(seeds)), draw(some)), "epsilon": draw(epsilons)}
    return Call(arguments, partial(papers.l2_normalise, **arguments))


llama3 = st.fixed_dictionaries(
    {
        "rope_type": st.just("llama3"),
        "factor": st.sampled_from([2.0, 8.0]),
        "low_freq_factor": st.sampled_from([1.0, 2.0]),
        "high_freq_factor": st.sampled_from([4.0, 9.0]),
        "original_max_position_embeddings": st.sampled_from([16, 64, 8192]),
    }
)
scalings = st.sampled_from([None, {"rope_type": "default"}, {}]) | llama3
scalings |= st.fixed_dictionaries({"rope_type": st.just("linear"), "factor": st.sampled_from([2.0, 8.0])})


@st.composite
def frequencies(draw) -> Call:
    arguments = {
        "rotary_size": 2 * draw(some),
        "theta": draw(st.sampled_from([10.0, 1e4, 5e5])),
        "scaling": draw(scalings),
    }
    device = draw(st.sampled_from([None, torch.device("cpu"), torch.device("meta")]))

    def expected() -> Tensor:
        found = papers.rotary_frequencies(**arguments)
        return found.to(device) if device is not None else found

    return Call({**arguments, "device": device}, expected)


@st.composite
def rotations(draw) -> Call:
    normal = Normal(draw(seeds))
    batch, tokens, heads, half = draw(few), draw(some), draw(few), draw(few)
    shape = draw(st.sampled_from([(tokens,), (batch, tokens)]))
    last = draw(st.sampled_from([4, 300, 2**20 + 2**10, 2**25]))
    arguments = {
        "x": normal(batch, tokens, heads, 2 * half + draw(st.integers(0, 2))),
        "positions": torch.randint(last - 3, last, shape, generator=normal.generator),
        "frequencies": normal.uniform(half),
    }
    return Call(arguments, partial(papers.apply_rotary, **arguments))


BATCH, HEADS, POSITIONS = 2, 4, 7


def table(mask_mod: masks.MaskMod) -> Tensor:
    """[B, H, Q, S]: what a mask lets through."""
    b, h = torch.arange(BATCH)[:, None, None, None], torch.arange(HEADS)[:, None, None]
    seen = mask_mod(b, h, torch.arange(POSITIONS)[:, None], torch.arange(POSITIONS))
    return seen.expand(BATCH, HEADS, POSITIONS, POSITIONS)


def table_by_loop(sees: Sees) -> Tensor:
    rows = [[[sees(b, q, k) for k in range(POSITIONS)] for q in range(POSITIONS)] for b in range(BATCH)]
    return torch.tensor(rows)[:, None].expand(BATCH, HEADS, POSITIONS, POSITIONS)


@st.composite
def causal_masks(draw) -> Call:
    positions = st.lists(st.integers(0, 5), min_size=3, max_size=3)
    arguments = {name: torch.tensor(draw(positions)) for name in ("batch", "head", "query_position", "key_position")}

    def expected() -> Tensor:
        pairs = zip(arguments["query_position"].tolist(), arguments["key_position"].tolist(), strict=True)
        return torch.tensor([key <= query for query, key in pairs])

    return Call(arguments, expected)


@st.composite
def windows(draw) -> Call:
    window = draw(st.integers(1, 8))
    return Call({"window": window}, lambda: table_by_loop(lambda b, q, k: q - window < k <= q), table)


@st.composite
def prefixes(draw) -> Call:
    lengths = draw(st.lists(st.integers(0, 8), min_size=BATCH, max_size=BATCH))
    length: int | Tensor = draw(st.sampled_from([lengths[0], torch.tensor(lengths)]))
    of = [lengths[0]] * BATCH if isinstance(length, int) else lengths
    return Call({"prefix_length": length}, lambda: table_by_loop(lambda b, q, k: k < of[b] or k <= q), table)


@st.composite
def documents(draw) -> Call:
    of = draw(st.lists(st.integers(0, 2), min_size=POSITIONS, max_size=POSITIONS))
    window = draw(st.none() | st.integers(1, 4))
    arguments: dict[str, Any] = {"document_of": torch.tensor(of)}
    if window is not None:
        arguments["inner"] = masks.sliding_window(window)
    nearest = POSITIONS if window is None else window
    return Call(arguments, lambda: table_by_loop(lambda b, q, k: of[q] == of[k] and q - nearest < k <= q), table)


@st.composite
def slopes(draw) -> Call:
    heads = draw(st.sampled_from([1, 2, 4, 8, 16]))
    return Call({"heads": heads}, lambda: papers.slopes(heads))


def modified(score_mod: masks.ScoreMod, score: Tensor) -> Tensor:
    b, h = torch.arange(BATCH)[:, None, None, None], torch.arange(HEADS)[:, None, None]
    return score_mod(score, b, h, torch.arange(POSITIONS)[:, None], torch.arange(POSITIONS))


@st.composite
def linear_biases(draw) -> Call:
    normal = Normal(draw(seeds))
    score, given = normal(BATCH, HEADS, POSITIONS, POSITIONS), normal.uniform(HEADS)
    distance = torch.tensor([[k - q for k in range(POSITIONS)] for q in range(POSITIONS)])
    return Call(
        {"slopes": given},
        lambda: torch.stack([score[:, h] + given[h] * distance for h in range(HEADS)], dim=1),
        partial(modified, score=score),
    )


@st.composite
def softcaps(draw, nearness: float) -> Call:
    normal, cap = Normal(draw(seeds)), draw(caps)
    score = nearness * cap * torch.tanh(normal(BATCH, HEADS, POSITIONS, POSITIONS))
    return Call({"cap": cap}, lambda: cap * torch.tanh(score / cap), partial(modified, score=score))


@st.composite
def blocks_of_masks(draw, counted: bool) -> Call:
    queries, past, size = draw(st.integers(1, 7)), draw(st.integers(0, 4)), draw(st.integers(1, 5) | st.just(128))
    mask_mod, sees = drawn_mask(draw, 1, queries + past, by_row=False)
    if mask_mod is None:
        mask_mod = masks.prefix_lm(queries + past)
    device = torch.device(draw(st.sampled_from(["cpu", "meta"])))
    if device.type == "meta":  # a document mask holds a tensor of its own, which is on the processor
        mask_mod = masks.causal
    arguments = {
        "mask_mod": mask_mod,
        "queries": queries,
        "keys": queries + past,
        "device": device,
        "block_size": size,
    }
    rows = [[sees(0, past + i, j) for j in range(queries + past)] for i in range(queries)]
    stretches = [rows[at : at + size] for at in range(0, queries, size)]
    starts = range(0, queries + past, size)

    def expected() -> Any:
        if counted:
            counts = [[sum(sum(row[at : at + size]) for row in block) for at in starts] for block in stretches]
            return torch.tensor(counts).to(device)
        return tuple(torch.tensor(block).to(device) for block in stretches)

    return Call(arguments, expected, lambda result: result if counted else tuple(result))


FUNCTIONS: dict[Callable, st.SearchStrategy[Call]] = {
    attention.attention: attentions("dense"),
    attention.block_sparse_attention: attentions("block_sparse"),
    attention.sliding_window_attention: attentions("window"),
    convolution.causal_convolution: convolutions("whole"),
    convolution.step_causal_convolution: convolutions("step"),
    delta_rule.chunked_delta_rule: delta_rules("chunked"),
    delta_rule.recurrent_delta_rule: delta_rules("recurrent"),
    delta_rule.step_delta_rule: delta_rules("step"),
    masks.alibi: linear_biases(),
    masks.alibi_slopes: slopes(),
    masks.block_counts: blocks_of_masks(True),
    masks.causal: causal_masks(),
    masks.document: documents(),
    masks.prefix_lm: prefixes(),
    masks.seen_by_block: blocks_of_masks(False),
    masks.sliding_window: windows(),
    masks.tanh_softcap: softcaps(3.0),
    masks.tanh_softcap_approximate: softcaps(0.9),
    norms.gated_rms_norm: gated_norms(),
    norms.l2_normalise: l2_norms(),
    norms.rms_norm: rms_norms(),
    rotary.apply_rotary: rotations(),
    rotary.rotary_frequencies: frequencies(),
    selective_scan.chunked_selective_scan: selective_scans("chunked"),
    selective_scan.recurrent_selective_scan: selective_scans("recurrent"),
    selective_scan.step_selective_scan: selective_scans("step"),
    ssd.chunked_ssd: ssds("chunked"),
    ssd.recurrent_ssd: ssds("recurrent"),
    ssd.step_ssd: ssds("step"),
}
MODULES = (attention, convolution, delta_rule, masks, norms, rotary, selective_scan, ssd)
"""Those whose public functions are all above."""
