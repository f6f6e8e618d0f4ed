"""Lengths that a model's context does not hold: divided by a power of two, visibly so in the workload's name."""

from __future__ import annotations


def least_divisor(longest: int, shortest: int, context: int) -> int | None:
    """The least power of two by which all lengths are divided, so that the longest sequence fits into `context`.

    None when that leaves nothing of the shortest length. All are in tokens.
    """
    divisor = 1
    while longest // divisor > context:
        divisor *= 2
    return divisor if shortest // divisor >= 1 else None


def scaled_name(name: str, length: int, divisor: int) -> str:
    """`rollout-1024`; scaled down to 64 tokens, `rollout-64-of-1024`."""
    return f"{name}-{length}" if divisor == 1 else f"{name}-{length // divisor}-of-{length}"
