"""Seeded tokens for a training loop, and documents packed into one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hybrid_ops.engines.training_bench.plan import Plan

IGNORED = -100
"""The target of a token that no loss is taken of: the last one of a sequence or document."""
FIRST_ORDINARY_TOKEN = 10
"""Tokens are drawn from here on: the ids below are commonly special, and the embedding of padding learns nothing."""


@dataclass(frozen=True)
class Part:
    """What one forward pass of one process is given."""

    tokens: Tensor
    """[B, T], or [1, B·T] where documents are packed."""
    targets: Tensor
    """Of the same shape: each token's next one, or `IGNORED`."""
    lengths: tuple[int, ...]
    """Tokens of each packed document; empty where nothing is packed."""

    @property
    def boundaries(self) -> Tensor:
        """[N + 1] cumulative lengths of the packed documents, as kernels take `cu_seqlens`."""
        return torch.tensor((0, *self.lengths)).cumsum(0).int()

    def documents(self) -> list[tuple[Tensor, Tensor]]:
        """Tokens and targets, each document by itself: what packing must not change."""
        if not self.lengths:
            return [(self.tokens, self.targets)]
        return list(zip(self.tokens.split(self.lengths, dim=1), self.targets.split(self.lengths, dim=1)))

    def inputs(self) -> dict[str, Any]:
        """What transformers' models are called with. Kernels that know packed documents read their boundaries by one of
        these names, and attention without such kernels finds them where the positions begin anew."""
        if not self.lengths:
            return {"input_ids": self.tokens}
        device, boundaries, longest = self.tokens.device, self.boundaries.to(self.tokens.device), max(self.lengths)
        numbers = torch.arange(len(self.lengths), dtype=torch.int32)
        return {
            "input_ids": self.tokens,
            "position_ids": torch.cat([torch.arange(length) for length in self.lengths])[None].to(device),
            "cu_seq_lens_q": boundaries,
            "cu_seq_lens_k": boundaries,
            "max_length_q": longest,
            "max_length_k": longest,
            "seq_idx": numbers.repeat_interleave(torch.tensor(self.lengths))[None].to(device),
        }


def step_parts(plan: Plan, vocabulary: int, step: int) -> list[Part]:
    """The parts of one optimizer step over all processes, in order. The same plan and step give the same tokens."""
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    tokens = torch.randint(FIRST_ORDINARY_TOKEN, vocabulary, (plan.batch, plan.tokens), generator=generator)
    return [_part(rows, plan, generator) for rows in tokens.split(plan.batch // plan.accumulation)]


def share(parts: list[Part], plan: Plan, rank: int, processes: int) -> list[Part]:
    """What one of several processes computes of each part: every so many-th sequence."""
    if processes == 1:
        return parts
    shared = []
    for part in parts:
        rows = part.tokens.view(-1, plan.tokens)[rank::processes]
        targets = part.targets.view(-1, plan.tokens)[rank::processes]
        lengths: tuple[int, ...] = ()
        if part.lengths:
            by_row = [part.lengths[row : row + plan.documents] for row in range(0, len(part.lengths), plan.documents)]
            lengths = tuple(length for row in by_row[rank::processes] for length in row)
            rows, targets = rows.reshape(1, -1), targets.reshape(1, -1)
        shared.append(Part(rows, targets, lengths))
    return shared


def counted_targets(parts: list[Part]) -> int:
    """How many tokens have a target."""
    return sum(int((part.targets != IGNORED).sum()) for part in parts)


def _part(rows: Tensor, plan: Plan, generator: torch.Generator) -> Part:
    targets = torch.full_like(rows, IGNORED)
    targets[:, :-1] = rows[:, 1:]
    if not plan.is_packed:
        return Part(rows, targets, ())
    lengths: list[int] = []
    for row in range(len(rows)):
        # Each document has two tokens at least: one to read and one to predict.
        free = plan.tokens - 2 * plan.documents + 1
        cuts = torch.randint(free, (plan.documents - 1,), generator=generator).sort().values.tolist()
        own = [2 + after - before for before, after in zip([0, *cuts], [*cuts, free - 1])]
        lengths += own
        ends = torch.tensor(own).cumsum(0) - 1
        targets[row, ends] = IGNORED
    return Part(rows.reshape(1, -1), targets.reshape(1, -1), tuple(lengths))
