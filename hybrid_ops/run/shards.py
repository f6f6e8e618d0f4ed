"""Shards: the parts of one run that several machines make."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hybrid_ops.errors import InputError

OPTION = "--perf-shard"


@dataclass(frozen=True)
class Shard:
    """One of so many shards, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """`2/3`. Raises InputError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None:
        raise InputError(f"{OPTION}: a shard and how many there are, such as 2/3, not {text!r}")
    shard = Shard(int(match[1]), int(match[2]))
    if not 1 <= shard.number <= shard.count:
        raise InputError(f"{OPTION}: the first number is one from 1 to the second, as in 2/3, not {text!r}")
    return shard
