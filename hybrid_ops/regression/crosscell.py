"""Reading across the cells of one engine spec: what they share is the launch's, and what only one shows is doubtful."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hybrid_ops.measure.metrics import Direction


class FindingKind(StrEnum):
    LONE_OUTLIER = "lone-outlier"
    """One cell is worse while its siblings, from the same launches, are not."""
    COMMON_CHANGE = "common-change"
    """All cells of an engine spec moved alike against their baselines: reported once, as the engine's."""
    LAUNCH_CHANGE = "launch-change"
    """All cells of one launch moved alike against the spec's other launches: reported once, as the launch's."""


@dataclass(frozen=True)
class Reading:
    """One noisy cell as its launches saw it. Values are positive, launches in order."""

    name: str
    spec: str
    """The engine spec, which its siblings share: the same launches measure them."""
    direction: Direction
    baseline: Sequence[float]
    current: Sequence[float]
    noise: float
    """Deviation of log values between launches (`Judgement.noise`)."""


@dataclass(frozen=True)
class Finding:
    """Something that only the cells together show."""

    kind: FindingKind
    spec: str
    cells: tuple[str, ...]
    launch: int | None
    """The launch's number from 0, for a launch's change."""
    badness: float
    """How much worse, as a log-ratio; negative is better."""
    text: str


def read_across(readings: Sequence[Reading], limit: float = 3.5, share: float = 0.8) -> list[Finding]:
    """What the cells of each engine spec say together, specs in the order of their first cell.

    A move is notable beyond `limit` standard errors of the cell; a change is common when at least `share` of three or
    more cells moved notably to the same side. Nothing here changes a verdict: it tells the reader where to look.
    """
    findings: list[Finding] = []
    for spec in dict.fromkeys(reading.spec for reading in readings):
        cells = [r for r in readings if r.spec == spec and r.baseline and r.current]
        if len(cells) < 3:
            continue
        moves = [_move(cell) for cell in cells]
        findings += _common(spec, cells, moves, limit, share)
        findings += _lone(spec, cells, moves, limit)
        findings += _launches(spec, cells, limit, share)
    return findings


def _worse(reading: Reading, values: Sequence[float]) -> list[float]:
    sign = 1 if reading.direction is Direction.LOWER else -1
    return [sign * math.log(value) for value in values]


def _move(reading: Reading) -> tuple[float, float]:
    """By how much a cell is worse than its baseline, and in standard errors."""
    move = statistics.median(_worse(reading, reading.current)) - statistics.median(_worse(reading, reading.baseline))
    error = reading.noise * math.sqrt(1 / len(reading.baseline) + 1 / len(reading.current))
    return move, move / max(error, 1e-9)


def _common(
    spec: str, cells: Sequence[Reading], moves: Sequence[tuple[float, float]], limit: float, share: float
) -> list[Finding]:
    for side in (1, -1):
        moved = [(cell, move) for cell, (move, errors) in zip(cells, moves) if side * errors > limit]
        if len(moved) >= max(3, share * len(cells)):
            badness = statistics.median(move for _, move in moved)
            text = f"{len(moved)} of {len(cells)} cells of {spec} are {_size(badness)} together: one cause, not many."
            names = tuple(cell.name for cell, _ in moved)
            return [Finding(FindingKind.COMMON_CHANGE, spec, names, None, badness, text)]
    return []


def _lone(spec: str, cells: Sequence[Reading], moves: Sequence[tuple[float, float]], limit: float) -> list[Finding]:
    worse = [index for index, (_, errors) in enumerate(moves) if errors > limit]
    if len(worse) != 1:
        return []
    index = worse[0]
    others = statistics.median(move for position, (move, _) in enumerate(moves) if position != index)
    if others > 0:
        return []
    badness = moves[index][0]
    text = (
        f"{cells[index].name} alone is {_size(badness)}, while its {len(cells) - 1} siblings from the same launches of "
        f"{spec} are {_size(others)}: look at this workload, or distrust the cell."
    )
    return [Finding(FindingKind.LONE_OUTLIER, spec, (cells[index].name,), None, badness, text)]


def _launches(spec: str, cells: Sequence[Reading], limit: float, share: float) -> list[Finding]:
    findings = []
    count = min(len(cell.current) for cell in cells)
    # With two launches one cannot tell which of them is the odd one.
    for launch in range(count if count >= 3 else 0):
        distances = []
        for cell in cells:
            values = _worse(cell, cell.current)
            distance = values[launch] - statistics.median(values)
            distances.append((distance, distance / max(cell.noise, 1e-9)))
        for side in (1, -1):
            moved = [distance for distance, deviations in distances if side * deviations > limit]
            if len(moved) >= max(3, share * len(cells)):
                badness = statistics.median(moved)
                text = (
                    f"Launch {launch + 1} of {spec} is {_size(badness)} than its other launches in {len(moved)} of "
                    f"{len(cells)} cells: the launch, not the cells."
                )
                names = tuple(cell.name for cell in cells)
                findings.append(Finding(FindingKind.LAUNCH_CHANGE, spec, names, launch, badness, text))
    return findings


def _size(badness: float) -> str:
    return f"{abs(math.expm1(badness)):.1%} {'worse' if badness > 0 else 'better'}"
