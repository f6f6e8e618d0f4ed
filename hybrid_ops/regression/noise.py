"""What A/A comparisons have shown of each cell on one device class: noise, MDE, and how often it was flagged."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.measure.store import write_json
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.judge import Settings, minimum_detectable_effect
from hybrid_ops.regression.statistics import Noise, noise_of
from hybrid_ops.regression.verdicts import Verdict

NOISE_FILE = "noise.json"
"""Beside the baselines of the device class."""
NOISE_SCHEMA_VERSION = 1


class MeasuredNoise:
    """The noise file of one device class.

    `{"schema": 1, "cells": {cell: {"sessions": [{"run": id, "log_ratios": [...], "flagged": bool}], "deviation": ...,
    "degrees": ..., "mde": ..., "false_positive_rate": ...}}}`: the raw log-ratios of every A/A session, and what
    follows from all of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cells: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                found, self._cells = document["schema"], document["cells"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise InputError(f"{path}: not a noise file ({error!r}); measure it anew with --perf-aa") from None
            if found != NOISE_SCHEMA_VERSION:
                raise InputError(f"{path}: schema: this release reads {NOISE_SCHEMA_VERSION}, not {found!r}")

    @property
    def by_cell(self) -> dict[str, Noise]:
        """The noise of a launch pair's log-ratio, by cell."""
        return {name: Noise(cell["deviation"], cell["degrees"]) for name, cell in self._cells.items()}

    def add(self, results: Sequence[CellResult], run: str, settings: Settings) -> dict[str, dict[str, Any]]:
        """Add one A/A session, write the file, and return the cells that it measured as they are now."""
        changed = {}
        for result in results:
            if len(result.log_ratios) < 2:
                continue
            cell = self._cells.setdefault(result.cell, {"sessions": []})
            flagged = result.verdict in (Verdict.SLOWER, Verdict.FASTER)
            cell["sessions"].append({"run": run, "log_ratios": result.log_ratios, "flagged": flagged})
            cell |= _summary(cell["sessions"], settings)
            changed[result.cell] = cell
        if changed:
            write_json(self.path, {"schema": NOISE_SCHEMA_VERSION, "cells": self._cells})
        return changed


def _summary(sessions: Sequence[dict[str, Any]], settings: Settings) -> dict[str, float]:
    """Noise within sessions, the effect that it lets a comparison detect, and the share of sessions flagged."""
    noises = [noise_of(session["log_ratios"]) for session in sessions]
    degrees = sum(noise.degrees for noise in noises)
    deviation = math.sqrt(sum(noise.degrees * noise.deviation**2 for noise in noises) / degrees)
    noise = Noise(deviation, degrees)
    return {
        "deviation": deviation,
        "degrees": degrees,
        "mde": minimum_detectable_effect(noise, Noise(0.0, 1), 0, settings.maximum_launches, settings),
        "false_positive_rate": sum(session["flagged"] for session in sessions) / len(sessions),
    }
