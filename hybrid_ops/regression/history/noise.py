"""How much each cell moves from night to night, learnt from the history."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import groupby, pairwise

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.measure.warmup import MAD_TO_DEVIATION
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.learnt import NightNoise
from hybrid_ops.regression.statistics import Noise

NIGHTS = 60
"""How many nights back the noise is learnt from: a machine changes over the years."""
FEWEST_STEPS = 5
"""How many steps from one night to the next it takes to say anything."""
DEGREES_PER_STEP = 0.25
"""How many degrees of freedom a step is worth. A variance from successive differences is worth two thirds of an
ordinary one (von Neumann 1941), and one from a median of absolute values about three eighths of that."""


def night_noise(history: History, device: str) -> dict[str, NightNoise]:
    """The noise between nights of each noisy cell of a device class.

    From the steps between successive nights with the same baseline, and from the median of their size: a regression
    that stays is one large step among many, and an accepted change is none at all.
    """
    rows = history.read(
        "SELECT cell || '-' || metric, value, launches, baseline FROM (SELECT cell, metric, value, launches, baseline, "
        "started, series, row_number() OVER (PARTITION BY series ORDER BY started DESC) AS back FROM point "
        "JOIN series ON series.id = series WHERE device = ? AND kind <> ? AND value > 0 AND launches > 0) "
        "WHERE back <= ? ORDER BY series, started",
        (device, Kind.EXACT.value, NIGHTS),
    )
    return dict(_noises(rows))


def _noises(rows: list[tuple[str, float, int, float | None]]) -> Iterator[tuple[str, NightNoise]]:
    for cell, group in groupby(rows, key=lambda row: row[0]):
        nights = list(group)
        steps = [math.log(b[1] / a[1]) for a, b in pairwise(nights) if a[3] == b[3]]
        if len(steps) < FEWEST_STEPS:
            continue
        deviation = MAD_TO_DEVIATION * statistics.median(map(abs, steps)) / math.sqrt(2)
        share = statistics.fmean(1 / launches for _, _, launches, _ in nights)
        yield cell, NightNoise(Noise(deviation, DEGREES_PER_STEP * len(steps)), share)
