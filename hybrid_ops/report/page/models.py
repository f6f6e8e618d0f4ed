"""What a run shows of its models: where prefill and decode stand in the roofline, and what their caches hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hybrid_ops.engines.protocol import CacheFacts
from hybrid_ops.measure.procedures.cache_probe import KINDS
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.numbers import show

PHASES = ("prefill", "decode")
CONCURRENCY = ("max_concurrency", "measured_max_concurrency")
SEQUENCE_BYTES = "kv_cache_bytes_per_sequence"


@dataclass(frozen=True)
class CacheRow:
    """The cache of one engine, as the table shows it."""

    engine: str
    groups: str
    block: str
    blocks: str
    memory: str
    concurrency: str


def roofline_data(run: RunResults) -> dict[str, Any]:
    """The phases of each case that could be accounted for, and the device's peaks where the run knows them."""
    points = []
    for case in dict.fromkeys(cell.case for cell in run.cells):
        medians = run.medians(case)
        for phase in PHASES:
            intensity = medians.get(f"{phase}_arithmetic_intensity")
            speed = medians.get(f"{phase}_flops_per_second")
            if intensity and speed:
                points.append({"case": case, "phase": phase, "intensity": intensity, "speed": speed})
    peaks = run.device.peaks
    if peaks is None:
        return {"points": points}
    return {"points": points, "flops": peaks.flops, "bandwidth": peaks.bandwidth, "source": peaks.source}


def length_data(run: RunResults) -> dict[str, dict[str, list[list[float]]]]:
    """Of sequences so long: how many fit at once and the bytes that each takes, as (tokens, value) by case."""
    found: dict[str, dict[str, list[list[float]]]] = {"concurrency": {}, "bytes": {}}
    for cell in run.cells:
        family, _, length = cell.metric.partition("@")
        chart = "concurrency" if family in CONCURRENCY else "bytes" if family == SEQUENCE_BYTES else None
        if chart is not None and length.isdecimal() and isinstance(cell.value, int | float):
            found[chart].setdefault(cell.case, []).append([int(length), cell.value])
    for cases in found.values():
        for points in cases.values():
            points.sort()
    return found


def caches(run: RunResults) -> dict[str, CacheFacts]:
    """The cache of each engine that shows one, as its first launch had it."""
    found: dict[str, CacheFacts] = {}
    for launch in run.single_launches:
        if launch.facts is not None and launch.facts.cache is not None and launch.launch_name not in found:
            found[launch.launch_name] = launch.facts.cache
    return found


def cache_rows(run: RunResults) -> list[CacheRow]:
    """The rows of the table of caches."""
    return [
        CacheRow(
            engine=name,
            groups=", ".join(
                f"{_kind(group.kind)} × {group.layers} layer{'' if group.layers == 1 else 's'}"
                for group in cache.groups
            ),
            block=show(cache.bytes_per_block, "B"),
            blocks=str(cache.num_blocks),
            memory=show(cache.num_blocks * cache.bytes_per_block, "B"),
            concurrency=_fitting(cache),
        )
        for name, cache in caches(run).items()
    ]


def _fitting(cache: CacheFacts) -> str:
    """How many sequences of the greatest length fit; `—` for an engine that does not tell."""
    return f"{cache.max_concurrency:.4g} of {cache.max_model_len} tokens" if cache.max_concurrency else "—"


def layer_data(run: RunResults) -> dict[str, dict[str, int]]:
    """How many layers of each engine keep what in the cache, by kind."""
    found: dict[str, dict[str, int]] = {}
    for name, cache in caches(run).items():
        kinds = found.setdefault(name, {})
        for group in cache.groups:
            kinds[_kind(group.kind)] = kinds.get(_kind(group.kind), 0) + group.layers
    return found


def _kind(kind: str) -> str:
    return KINDS.get(kind, kind)
