"""The JSON that the GitHub action `benchmark-action/github-action-benchmark` reads from a tool of one's own.

It is a list of `{"name", "unit", "value", "range", "extra"}`, all of one direction: `customBiggerIsBetter` or
`customSmallerIsBetter`. So a run is two files. Metrics without a direction, which are exact, are in neither: the action
would take a difference one way for an improvement.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import Direction
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.interchange.formats import Part, Writer, measured_number

PARTS = {"bigger": Direction.HIGHER, "smaller": Direction.LOWER}


class GithubActionBenchmark(Writer):
    """Two lists, one of each direction."""

    name: ClassVar[str] = "github-action-benchmark"
    parts_are: ClassVar[str] = "bigger or smaller (is better)"

    def write(self, run: RunResults) -> Sequence[Part]:
        parts = []
        for name, direction in PARTS.items():
            entries = [
                _entry(cell, value)
                for cell in run.cells
                if cell.direction == direction.value and (value := measured_number(cell)) is not None
            ]
            if entries:
                parts.append(Part(name, json.dumps(entries, indent=1) + "\n"))
        if not parts:
            raise InputError("no cell has a number and a direction")
        return parts


def _entry(cell: CellResult, value: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": f"{cell.case} {cell.metric}", "unit": cell.unit, "value": value}
    launches = [value for value in cell.launches if not isinstance(value, str)]
    if len(launches) > 1:
        entry["range"] = f"{min(launches):.6g} to {max(launches):.6g}"
    extra = [f"verdict: {cell.verdict.value}", "launches: " + ", ".join(f"{value:.6g}" for value in launches)]
    if cell.baseline is not None:
        extra.append(f"{cell.compared_with}: {cell.baseline}")
    return entry | {"extra": "\n".join(extra)}
