"""The properties of recurrent layers as functions, so that the property tests and the mutation tests use the same ones.

Every check raises AssertionError with the error that it found and the bound that it broke.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from tests.layers import papers
from tests.layers.inputs import Inputs

FLOAT64 = 1e-12
"""Relative error of two float64 computations of one recurrence: thousands of roundings of 1.1e-16."""
FLOAT32 = 1e-5
"""The same in float32, whose roundings are 6e-8."""
BFLOAT16 = 2.0**-8
"""What rounding an output to bfloat16 costs: half a unit of its 8 bits is 2⁻⁹ relative, plus float32's share."""


@dataclass(frozen=True)
class Layer:
    """A recurrent layer: its forms, and the paper's recurrence. `recurrent` is None where there is no such form."""

    name: str
    paper: Callable[..., tuple[Tensor, Tensor]]
    chunked: Callable[..., tuple[Tensor, Tensor]]
    step: Callable[..., tuple[Tensor, Tensor]]
    recurrent: Callable[..., tuple[Tensor, Tensor]] | None
    has_chunks: bool = True


def layers_of(modules: dict[str, ModuleType]) -> dict[str, Layer]:
    """The recurrent layers of (possibly mutated) modules."""
    delta_rule, ssd = modules["delta_rule"], modules["ssd"]
    selective_scan, convolution = modules["selective_scan"], modules["convolution"]
    return {
        "delta_rule": Layer(
            "delta_rule",
            papers.delta_rule,
            delta_rule.chunked_delta_rule,
            delta_rule.step_delta_rule,
            delta_rule.recurrent_delta_rule,
        ),
        "ssd": Layer("ssd", papers.ssd, ssd.chunked_ssd, ssd.step_ssd, ssd.recurrent_ssd),
        "selective_scan": Layer(
            "selective_scan",
            papers.selective_scan,
            selective_scan.chunked_selective_scan,
            selective_scan.step_selective_scan,
            selective_scan.recurrent_selective_scan,
        ),
        "convolution": Layer(
            "convolution",
            papers.causal_convolution,
            convolution.causal_convolution,
            convolution.step_causal_convolution,
            None,
            has_chunks=False,
        ),
    }


def run(form: Callable[..., tuple[Tensor, Tensor]], inputs: Inputs, **options: object) -> tuple[Tensor, Tensor]:
    return form(**inputs.sequences, **inputs.parameters, initial_state=inputs.state, **options)


def decode(layer: Layer, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Token by token with the step form."""
    state, outputs = inputs.state, []
    for t in range(inputs.tokens):
        token = {name: tensor[:, t] for name, tensor in inputs.sequences.items()}
        output, state = layer.step(**token, **inputs.parameters, state=state)
        outputs.append(output)
    return torch.stack(outputs, dim=1), state


def magnitude(layer: Layer, inputs: Inputs) -> float:
    """How large the terms are that an output is summed from.

    A sum that cancels has a rounding error relative to its terms, not to what is left of them, so that a bound relative
    to the output alone would fail on outputs that happen to be close to zero.
    """
    if layer.name == "delta_rule":  # |o| ≤ ‖q‖ ‖S‖ / √K with unit queries and keys
        values, state = inputs.sequences["value"].double(), inputs.state.double()
        return max(values.norm().item(), state.norm().item()) / inputs.sequences["key"].shape[-1] ** 0.5
    positive = inputs.map(lambda tensor: tensor.double().abs(), lambda state: state.double().abs())
    # Rates of decay keep their sign: they are exponents, not terms.
    parameters = {name: tensor if name == "A" else tensor.abs() for name, tensor in positive.parameters.items()}
    return layer.paper(**positive.sequences, **parameters, initial_state=positive.state)[0].norm().item()


def relative_error(actual: Tensor, expected: Tensor, scale: float = 0.0) -> float:
    """‖actual − expected‖ / max(‖expected‖, scale); NaN and infinity count as an infinite error."""
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {tuple(actual.shape)} instead of {tuple(expected.shape)}")
    difference = (actual.double() - expected.double()).norm().item()
    if not difference < float("inf"):
        return float("inf")
    reference = max(expected.double().norm().item(), scale)
    return difference / reference if reference else difference


def expect(what: str, error: float, bound: float) -> None:
    if not error <= bound:
        raise AssertionError(f"{what}: relative error {error:.2e} exceeds {bound:.1e}")


def agree(
    what: str, actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], bound: float, scale: float
) -> None:
    expect(f"{what}, output", relative_error(actual[0], expected[0], scale), bound)
    expect(f"{what}, state", relative_error(actual[1], expected[1], scale), bound)


def check_paper(layer: Layer, inputs: Inputs, chunk_size: int = 16) -> None:
    """All forms give what the paper's recurrence gives, in float64."""
    scale = magnitude(layer, inputs)
    expected = run(layer.paper, inputs)
    if layer.recurrent is not None:
        agree("recurrent = paper", run(layer.recurrent, inputs), expected, FLOAT64, scale)
    agree("chunked = paper", run_chunked(layer, inputs, chunk_size), expected, FLOAT64, scale)
    agree("step = paper", decode(layer, inputs), expected, FLOAT64, scale)


def run_chunked(layer: Layer, inputs: Inputs, chunk_size: int, **options: object) -> tuple[Tensor, Tensor]:
    if layer.has_chunks:
        options["chunk_size"] = chunk_size
    return run(layer.chunked, inputs, **options)


def check_chunk_size(layer: Layer, inputs: Inputs, first: int, second: int) -> None:
    """The chunk size does not change the result."""
    agree(
        f"chunks of {first} = chunks of {second}",
        run_chunked(layer, inputs, first),
        run_chunked(layer, inputs, second),
        FLOAT64,
        magnitude(layer, inputs),
    )


def check_prefill_is_decode(layer: Layer, inputs: Inputs) -> None:
    """One pass is the step form token by token."""
    agree("prefill = decode", run_chunked(layer, inputs, 16), decode(layer, inputs), FLOAT64, magnitude(layer, inputs))


def check_split(layer: Layer, inputs: Inputs, at: int, chunk_size: int) -> None:
    """Two passes that hand the state over are one pass."""
    expected = run_chunked(layer, inputs, chunk_size)
    first, state = run_chunked(layer, inputs.slice(0, at), chunk_size)
    second, state = run_chunked(layer, inputs.slice(at).with_state(state), chunk_size)
    agree(f"split at {at}", (torch.cat([first, second], dim=1), state), expected, FLOAT64, magnitude(layer, inputs))


def check_causality(layer: Layer, inputs: Inputs, at: int, chunk_size: int) -> None:
    """What comes at or after a token does not change what came before it."""
    future = torch.arange(inputs.tokens) >= at

    def disturb(tensor: Tensor) -> Tensor:
        return torch.where(future.view(1, -1, *[1] * (tensor.dim() - 2)), tensor.flip(1) * 0.5, tensor)

    disturbed = inputs.map(disturb, lambda state: state)
    before = run_chunked(layer, inputs, chunk_size)[0][:, :at]
    after = run_chunked(layer, disturbed, chunk_size)[0][:, :at]
    expect(f"causality at {at}", relative_error(after, before, magnitude(layer, inputs)), FLOAT64)


def check_batch(layer: Layer, inputs: Inputs, chunk_size: int) -> None:
    """A row of a batch is computed as if it were alone, and a permuted batch gives permuted results."""
    output, state = run_chunked(layer, inputs, chunk_size)
    scale = magnitude(layer, inputs)
    for row in range(inputs.batch):
        alone = run_chunked(layer, inputs.rows([row]), chunk_size)
        agree(f"row {row} alone", alone, (output[[row]], state[[row]]), FLOAT64, scale)
    order = list(reversed(range(inputs.batch)))
    agree("permuted", run_chunked(layer, inputs.rows(order), chunk_size), (output[order], state[order]), FLOAT64, scale)


def check_packing(layer: Layer, inputs: Inputs, lengths: list[int], chunk_size: int) -> None:
    """Sequences packed into one row are computed as if each were alone, empty ones included."""
    parts = [inputs.rows([n % inputs.batch]).slice(0, length) for n, length in enumerate(lengths)]
    sequences = {name: torch.cat([part.sequences[name] for part in parts], dim=1) for name in inputs.sequences}
    packed = Inputs(sequences, inputs.parameters, torch.cat([part.state for part in parts]))
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    alone = [run_chunked(layer, part, chunk_size) for part in parts]
    expected = torch.cat([output for output, _ in alone], dim=1), torch.cat([state for _, state in alone])
    scale = magnitude(layer, inputs)
    agree("packed", run_chunked(layer, packed, chunk_size, cu_seqlens=boundaries), expected, FLOAT64, scale)
    if layer.recurrent is not None:
        agree("packed, recurrent", run(layer.recurrent, packed, cu_seqlens=boundaries), expected, FLOAT64, scale)


def check_dtype(layer: Layer, inputs: Inputs, dtype: torch.dtype, chunk_size: int) -> None:
    """Every form in a lower precision is as close to the paper's float64 recurrence *on the same rounded inputs* as
    rounding the output allows; states stay in float32."""
    rounded = inputs.to(dtype).with_state(inputs.state.float())
    expected = run(layer.paper, rounded)
    scale = magnitude(layer, rounded)
    bound = BFLOAT16 if dtype == torch.bfloat16 else FLOAT32
    forms = {"chunked": run_chunked(layer, rounded, chunk_size), "step": decode(layer, rounded)}
    if layer.recurrent is not None:
        forms["recurrent"] = run(layer.recurrent, rounded)
    for name, (output, state) in forms.items():
        if output.dtype != dtype or state.dtype != torch.float32:
            raise AssertionError(f"{name}: output {output.dtype}, state {state.dtype}")
        expect(f"{name} in {dtype}, output", relative_error(output, expected[0], scale), bound)
        expect(f"{name} in {dtype}, state", relative_error(state, expected[1], scale), FLOAT32)
