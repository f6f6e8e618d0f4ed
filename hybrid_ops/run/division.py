"""Which launches of a run each of its shards makes.

Every shard divides the whole run and takes its own part. All do so alike without a word between them, because they
divide the same launches by the same recorded times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid_ops.regression.cells import Cell
from hybrid_ops.run.launch_seconds import Recorded, expected_seconds
from hybrid_ops.run.rounds import cases_by_launch_name

Group = tuple[str, ...]
"""Launches, by name, that stay on one shard."""


def launch_groups(cells: Sequence[Cell]) -> list[Group]:
    """The launches of `cells`, those together that a cell needs together: a ratio's case and its reference."""
    group_of: dict[str, set[str]] = {}
    for cell in cells:
        joined = {case.spec.launch_name for case in cell.cases}
        joined = joined.union(*(group_of[name] for name in joined if name in group_of))
        group_of |= dict.fromkeys(joined, joined)
    return sorted({tuple(sorted(group)) for group in group_of.values()})


def divide(cells: Sequence[Cell], measured: Sequence[Cell], recorded: Recorded, count: int) -> list[list[str]]:
    """The launches of each of `count` shards, by name.

    Parameters
    ----------
    cells: all that were chosen
    measured: those of them that are launched here; the others, which do not fit the device, take no time
    recorded: what launches take
    """
    launches = {name: [case.id for case in cases] for name, cases in cases_by_launch_name(measured).items()}
    seconds = expected_seconds(recorded, launches)
    groups = {group: sum(seconds.get(name, 0.0) for name in group) for group in launch_groups(cells)}
    return [[name for group in part for name in group] for part in longest_first(groups, count)]


def longest_first(seconds: Mapping[Group, float], count: int) -> list[list[Group]]:
    """Give each group, the longest first, to the shard that has the least to do (longest processing time first).

    The longest shard takes at most 4/3 - 1/(3 count) of what the best division would take (Graham, 1969).
    """
    parts: list[list[Group]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for group in sorted(seconds, key=lambda group: (-seconds[group], group)):
        least = min(range(count), key=lambda shard: (loads[shard], len(parts[shard]), shard))
        parts[least].append(group)
        loads[least] += seconds[group]
    return parts
