"""Agree first, time afterwards: every contender's numbers against float64, before it may have a time.

What is compared: the output, and in a backward case the gradients of all inputs, for one random gradient of the output.
With what: first, at a short length, with the layer's recurrent form in float64 (the window's: a dense masked softmax);
then, for the very call that will be timed, with our own form in float64, since the recurrence would take seconds and
gigabytes there. Our own form must pass the first, so that the second does not vouch for itself.

How: the norm of the error over the norm of the exact values, block by block of `BLOCK` tokens, and the worst block
counts. A kernel that skips the tail or returns zeros is off by 1 in its last block, however small that block is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench.cases import contenders, layer_and_direction, timed_shape
from hybrid_ops.engines.layer_bench.contender import Contender, Function, Layer, first
from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK = 16
"""Tokens whose errors are taken together."""

ROUNDINGS = 8
"""How many times the expected size of its rounding errors a contender may be off: room for the sums inside a token's
step, for operands that are rounded more than once, and for terms that cancel in an output smaller than they are."""

UNIT_ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
"""The most that one rounding changes a number, relative to it, by type."""

LARGEST_CHUNK = 256
"""Sums of so many tokens are formed inside a chunk, however short the sequence."""


class DisagreementError(Exception):
    """Our own form is not the layer: nothing that is compared with it would mean anything."""


@dataclass(frozen=True)
class Check:
    """How far a contender is from float64 where it is farthest, as a share of what it may be."""

    error: float
    """Norm of the error over the norm of the exact values, in the worst block; may be infinite."""
    bound: float
    where: str

    @property
    def share(self) -> float:
        return self.error / self.bound


@dataclass(frozen=True)
class Graph:
    """A forward pass that a backward pass is to follow."""

    output: Tensor
    leaves: dict[str, Tensor]


@dataclass(frozen=True)
class Call:
    """One contender on one set of inputs: one whole call, or its passes one by one."""

    function: Function
    output: Callable[[Any], Tensor]
    inputs: Mapping[str, Tensor]
    gradient: Tensor | None
    """Of the output, as a loss would give it; None in a forward case."""

    def __call__(self) -> dict[str, Tensor]:
        """The output, and with a `gradient` of it "gradient of x" for every input x.

        Raises:
            ValueError: the output does not have the shape of its gradient, or an input has none.
        """
        return {"output": self.forward()} if self.gradient is None else self.backward(self.graph())

    def forward(self) -> Tensor:
        """The output alone; nothing is kept for a gradient."""
        import torch

        with torch.no_grad():
            return self.output(self.function(*self.inputs.values()))

    def graph(self) -> Graph:
        """The output, with what its gradient needs."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.inputs.items()}
        return Graph(self.output(self.function(*leaves.values())), leaves)

    def backward(self, graph: Graph) -> dict[str, Tensor]:
        """The output again, and the gradients of all inputs."""
        assert self.gradient is not None
        y = graph.output
        if y.shape != self.gradient.shape:
            raise ValueError(f"output: its shape is {tuple(y.shape)} instead of {tuple(self.gradient.shape)}")
        y.backward(self.gradient.to(y.dtype))
        results = {"output": y.detach()}
        for name, leaf in graph.leaves.items():
            if leaf.grad is None:
                raise ValueError(f"gradient of {name}: there is none")
            results[f"gradient of {name}"] = leaf.grad
        return results


@dataclass
class Agreed:
    """A case after its check."""

    calls: dict[str, Call] = field(default_factory=dict)
    """One whole call of each contender that agrees, and of each yardstick. Each has run once."""
    checks: dict[str, Check] = field(default_factory=dict)
    """Of all contenders that gave numbers, those that disagree among them."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why a contender has no call."""


@dataclass(frozen=True)
class _Trial:
    """Inputs of one length, and what is exact for them."""

    shape: Shape
    inputs: dict[str, Tensor]
    gradient: Tensor | None
    """Of the output, as a loss would give it; None in a forward case."""
    exact: dict[str, Tensor]


def agree(
    case: str, shape: Shape, device: str = "cpu", *, compiled: bool = False, names: Sequence[str] | None = None
) -> Agreed:
    """Hold each contender of a case against float64.

    Args:
        case: one of `cases.CASES` or `cases.KERNEL_CASES`.
        shape: at which the case is timed.
        device: "cpu" or "cuda".
        compiled: also our form under `torch.compile`.
        names: who is tried beside our form; everyone when None.

    Returns:
        The calls that may be timed, how exact each contender is, and who was refused and why.

    Raises:
        ValueError: the case is not known.
        DisagreementError: "ours" is refused, unless the device's memory does not hold it; then nobody else is tried.
    """
    import torch

    layer, direction = layer_and_direction(case)
    place, timed = torch.device(device), timed_shape(case, shape)
    short = timed.with_tokens(layer.checked_tokens(timed))
    ours = layer.contenders[0]
    torch.manual_seed(0)
    trials = [
        _trial(layer, direction, short, place, layer.reference(short)),
        _trial(layer, direction, timed, place, ours.make(timed, place)),
    ]
    agreed = Agreed()
    for contender in contenders(case, device, compiled=compiled):
        if names is not None and contender.name not in (ours.name, *names):
            continue
        out_of_memory = False
        try:
            _admit(agreed, contender, layer, trials)
        except Exception as error:  # a peer may fail in any way of its own; the others go on
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
            agreed.refused[contender.name] = " ".join(f"{type(error).__name__}: {error}".split())
        if contender is ours and ours.name in agreed.refused and not out_of_memory:
            raise DisagreementError(f"{case}: {ours.name}: {agreed.refused[ours.name]}")
    return agreed


def bound(dtype: str, tokens: int) -> float:
    """The relative error that rounding explains, for blocks of values whose size is taken as their norm.

    In float32 a value is carried from token to token and rounded each time. Such errors have random signs, so that T of
    them add up like a random walk, to √T unit roundoffs (Higham & Mary, "A New Approach to Probabilistic Rounding Error
    Analysis", SIAM J. Sci. Comput. 41(5), 2019, Theorem 2.4). Kernels in half precision round their operands and
    outputs, and carry sums and states in float32: one unit roundoff, whatever the length.

    Args:
        dtype: "float32", "bfloat16" or "float16".
        tokens: T.
    """
    steps = max(tokens, LARGEST_CHUNK) if dtype == "float32" else 1
    return ROUNDINGS * UNIT_ROUNDOFF[dtype] * math.sqrt(steps)


def _admit(agreed: Agreed, contender: Contender, layer: Layer, trials: list[_Trial]) -> None:
    """Run one contender on each trial; keep its worst check, and its last call unless it is refused."""
    for trial in trials:
        function = contender.make(trial.shape, next(iter(trial.inputs.values())).device)
        call = Call(function, contender.output, trial.inputs, trial.gradient)
        found = call()
        if contender.is_yardstick:
            continue
        error, where = worst_block(found, trial.exact, layer.parameters)
        dtype = max(contender.dtype or trial.shape.dtype, trial.shape.dtype, key=UNIT_ROUNDOFF.__getitem__)
        check = Check(error, bound(dtype, trial.shape.tokens), f"{where} (of {trial.shape.tokens})")
        if contender.name not in agreed.checks or check.share > agreed.checks[contender.name].share:
            agreed.checks[contender.name] = check
        if check.share > 1:
            agreed.refused[contender.name] = (
                f"its relative error is {error:.2g} in {check.where}; {dtype} explains {check.bound:.2g}"
            )
            return
    agreed.calls[contender.name] = call


def _trial(layer: Layer, direction: str, shape: Shape, device: torch.device, reference: Function) -> _Trial:
    """New inputs, and what `reference` makes of them in float64, their own rounding included."""
    import torch

    kind = getattr(torch, shape.dtype)
    inputs = {
        name: tensor if name in layer.gates else tensor.to(kind) for name, tensor in layer.inputs(shape, device).items()
    }
    exactly = {name: tensor.double() for name, tensor in inputs.items()}
    gradient = None
    if direction == "backward":
        with torch.no_grad():
            output = first(reference(*exactly.values()))
        # Rounded as the contenders' outputs are, so that all are given the same one.
        gradient = torch.randn_like(output, dtype=torch.float32).to(kind).float()
    return _Trial(shape, inputs, gradient, _row_by_row(Call(reference, first, exactly, gradient), layer.parameters))


def _row_by_row(call: Call, parameters: tuple[str, ...]) -> dict[str, Tensor]:
    """What one call gives, computed for each sequence of the batch by itself, because float64 takes much memory.

    The gradients of `parameters`, which all sequences share, are added up.
    """
    import torch

    rows: list[dict[str, Tensor]] = []
    for row in range(next(x for name, x in call.inputs.items() if name not in parameters).shape[0]):
        cut = slice(row, row + 1)
        inputs = {name: x if name in parameters else x[cut] for name, x in call.inputs.items()}
        gradient = None if call.gradient is None else call.gradient[cut]
        rows.append(Call(call.function, call.output, inputs, gradient)())
    joined = {}
    for name in rows[0]:
        parts = [row[name] for row in rows]
        is_shared = name.removeprefix("gradient of ") in parameters
        joined[name] = torch.stack(parts).sum(dim=0) if is_shared else torch.cat(parts)
    return joined


def worst_block(
    found: Mapping[str, Tensor], exact: Mapping[str, Tensor], parameters: tuple[str, ...] = ()
) -> tuple[float, str]:
    """The largest relative error of any block of tokens, and where it is.

    Args:
        found, exact: tensors by name, [B, T, ...], but the gradients of `parameters`, which are one block each.
        parameters: names of inputs without a time axis.

    Returns:
        Norm of the error over the norm of the exact values, and its place in words. It is infinite for a block of which
        only the exact values are 0, or of which any that were found is not finite.

    Raises:
        ValueError: a tensor has another shape than the exact one.
    """
    worst, place = -math.inf, ""
    for name, true in exact.items():
        theirs = found[name]
        if theirs.shape != true.shape:
            raise ValueError(f"{name}: its shape is {tuple(theirs.shape)} instead of {tuple(true.shape)}")
        has_time = name.removeprefix("gradient of ") not in parameters
        blocks = zip(theirs.split(BLOCK, 1), true.split(BLOCK, 1)) if has_time else [(theirs, true)]
        for number, (found_block, true_block) in enumerate(blocks):
            error = _ratio((found_block.double() - true_block).norm().item(), true_block.norm().item())
            if error > worst:
                worst = error
                start = number * BLOCK
                place = f"{name}, tokens {start} to {start + true_block.shape[1] - 1}" if has_time else name
    return worst, place


def _ratio(error: float, size: float) -> float:
    if size > 0 and math.isfinite(error):
        return error / size
    return 0.0 if error == 0 else math.inf
