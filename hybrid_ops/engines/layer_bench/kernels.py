"""One kernel and everyone who computes it, pass by pass: agreed first, warmed up, then timed round by round.

A round times each pass of each contender once: forward, without anything kept for a gradient, and backward alone,
after a forward pass that is not timed. Two yardsticks of the device take part in every pass, so that what a contender
reaches is a ratio of two times of one round: the product of two square matrices, and a copy in memory.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench.agreement import Agreed, Call, agree
from hybrid_ops.engines.layer_bench.cases import DIRECTIONS, KERNELS, timed_shape
from hybrid_ops.engines.layer_bench.clock import Clock
from hybrid_ops.engines.layer_bench.memory import peak_allocation
from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch

MATMUL, COPY = "matmul", "copy"
MATMUL_SIZE = {"cpu": 512, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}
"""Read and written; of two buffers that no cache holds."""
BLOCK = 128
"""Queries and keys of a block of the mask."""
PICTURE_SIZE = 20
"""Most rows and columns of the picture of a mask."""
STEADY = 0.05
"""A contender has warmed up when a further call is no longer faster than all before by more than this share."""
MOST_WARM_UP_ROUNDS = 10


@dataclass(frozen=True)
class Blocks:
    """What a mask lets through, in blocks of 128 queries and 128 keys. A density is a share of all there is."""

    block_density: float
    """Blocks of which a query sees a key. What is left is the block sparsity."""
    exact_density: float
    """Pairs of a query and a key that it sees."""
    picture: str
    """Rows joined by "/"; in each a digit for so many columns: 0 for nothing seen, 1 for some, 2 for every pair."""


class Kernel:
    """One kernel at one shape on one device."""

    def __init__(
        self, name: str, shape: Shape, device: str, names: Sequence[str] | None, delays: Mapping[str, float]
    ) -> None:
        """Agree, take the peaks of memory, and warm up.

        Args:
            name: of `cases.KERNELS`.
            shape: of the inputs.
            device: "cpu" or "cuda".
            names: the contenders that take part; everyone when None.
            delays: by contender, makes its passes last longer by this share.

        Raises:
            ValueError: the kernel or a contender is not known.
            DisagreementError: "ours" is refused.
        """
        import torch

        if name not in KERNELS:
            raise ValueError(f"kernel: {name!r} is not one of {', '.join(KERNELS)}")
        layer = KERNELS[name]
        known = [contender.name for contender in layer.contenders]
        if unknown := [one for one in names or () if one not in known]:
            raise ValueError(f"contenders: {', '.join(unknown)}: {name} has {', '.join(known)}")
        self.layer, self.shape, self.place, self.delays = layer, shape, torch.device(device), delays
        self.passes: dict[str, Agreed] = {
            direction: agree(f"{name}/{direction}", shape, device, names=names) for direction in DIRECTIONS
        }
        self.moved_bytes = {way: _moved_bytes(agreed) for way, agreed in self.passes.items() if agreed.calls}
        """Of a pass that somebody computes: what it must read and write at least once."""
        self.clock = Clock(self.place)
        self.yardsticks = _yardsticks(self.place, getattr(torch, shape.dtype))
        self.peaks = {
            direction: {contender: self._peak(call, direction) for contender, call in agreed.calls.items()}
            for direction, agreed in self.passes.items()
        }
        self._warm_up()

    def round(self, seed: int) -> dict[str, dict[str, float]]:
        """Seconds by pass and contender, the yardsticks among them, in an order drawn from `seed`."""
        turns = [
            (direction, name) for direction, agreed in self.passes.items() for name in (*agreed.calls, *self.yardsticks)
        ]
        random.Random(seed).shuffle(turns)  # noqa: S311  (an order of measurement, not a secret)
        seconds: dict[str, dict[str, float]] = {direction: {} for direction in self.passes}
        for direction, name in turns:
            work = self.yardsticks.get(name)
            if work is None:
                work = self._prepared(self.passes[direction].calls[name], direction)
            seconds[direction][name], _ = self.clock.time(work, self.delays.get(name, 0.0))
        return seconds

    def flops(self, direction: str, density: float) -> dict[str, float]:
        """Floating-point operations of a pass by contender, where the mask lets through this share."""
        assert self.layer.flops is not None
        shape = self._timed(direction)
        factor = 1.0 if direction == "forward" else self.layer.backward_flops
        usual = density * self.layer.flops(shape)
        return {
            contender.name: factor * (usual if contender.flops is None else contender.flops(shape))
            for contender in self.layer.contenders
        }

    @functools.cached_property
    def blocks(self) -> Blocks | None:
        """What its mask lets through; None without a mask."""
        if self.layer.mask is None:
            return None
        return mask_blocks(self.layer.mask(self.shape, self.place), self.shape.tokens, self.place)

    def _timed(self, direction: str) -> Shape:
        return timed_shape(f"{self.layer.name}/{direction}", self.shape)

    def _prepared(self, call: Call, direction: str) -> Callable[[], Any]:
        """The pass, with all that comes before it done."""
        return call.forward if direction == "forward" else functools.partial(call.backward, call.graph())

    def _peak(self, call: Call, direction: str) -> int:
        """Of a forward pass, or of forward and backward together, because the backward pass holds what both keep."""
        whole = call.forward if direction == "forward" else call
        return peak_allocation(whole, self.place)

    def _warm_up(self) -> None:
        """Rounds until nobody gets faster."""
        best: dict[tuple[str, str], float] = {}
        for number in range(MOST_WARM_UP_ROUNDS):
            seen = {(way, name): s for way, by_name in self.round(number).items() for name, s in by_name.items()}
            faster = [key for key, s in seen.items() if s < (1 - STEADY) * best.get(key, float("inf"))]
            best = {key: min(s, best.get(key, s)) for key, s in seen.items()}
            if not faster:
                return


def _moved_bytes(agreed: Agreed) -> int:
    """Inputs and output, and in a backward pass the gradients of both as well."""
    call = next(iter(agreed.calls.values()))
    moved = sum(x.nbytes for x in call.inputs.values()) + call.forward().nbytes
    return moved if call.gradient is None else 2 * moved


def mask_blocks(mask_mod: Any, tokens: int, place: torch.device) -> Blocks:
    """What a mask lets through of a sequence of `tokens` queries and keys."""
    from hybrid_ops.layers.masks import block_counts

    counts = block_counts(mask_mod, tokens, tokens, place, BLOCK).double().cpu()
    return Blocks(
        block_density=(counts > 0).double().mean().item(),
        exact_density=counts.sum().item() / tokens**2,
        picture=_picture(counts, tokens),
    )


def _picture(counts: torch.Tensor, tokens: int) -> str:
    """Sections of as many blocks as make the picture small enough, as torch's own `BlockMask` has them."""
    blocks = len(counts)
    step = -(-blocks // PICTURE_SIZE)
    sizes = [min(BLOCK, tokens - BLOCK * number) for number in range(blocks)]
    rows = []
    for top in range(0, blocks, step):
        digits = ""
        for left in range(0, blocks, step):
            seen = counts[top : top + step, left : left + step].sum().item()
            pairs = sum(sizes[top : top + step]) * sum(sizes[left : left + step])
            digits += "0" if seen == 0 else "2" if seen == pairs else "1"
        rows.append(digits)
    return "/".join(rows)


def _yardsticks(place: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    import torch

    size = MATMUL_SIZE[place.type]
    left, right = torch.ones(2, size, size, dtype=dtype, device=place)
    product = torch.empty_like(left)
    origin = torch.ones(COPY_BYTES[place.type] // 2, dtype=torch.uint8, device=place)
    copy = torch.zeros_like(origin)
    return {
        MATMUL: functools.partial(torch.mm, left, right, out=product),
        COPY: functools.partial(copy.copy_, origin),
    }
