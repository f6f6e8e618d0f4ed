"""What A/A comparisons have shown of each cell on one device class: noise, MDE, and how often it was flagged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.measure.store import write_json
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.judge import Settings, minimum_detectable_effect
from hybrid_ops.regression.learnt import Session
from hybrid_ops.regression.statistics import Noise, noise_within
from hybrid_ops.regression.verdicts import Verdict

NOISE_FILE = "noise.json"
"""Beside the baselines of the device class."""
NOISE_SCHEMA_VERSION = 1


class MeasuredNoise:
    """The noise file of one device class.

    `{"schema": 1, "cells": {cell: {"sessions": [{"run": id, "definition": hash, "launches": [...], "log_ratios": [...],
    "flagged": bool}], "deviation": ..., "degrees": ..., "mde": ..., "false_positive_rate": ...}}}`: of every A/A
    session the launches of arm A and the log-ratios of its pairs, and what follows from the log-ratios of all of them.
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

    @property
    def sessions(self) -> dict[str, list[Session]]:
        """The launches of one arm in each session, by cell; without the sessions of releases that did not keep them."""
        return {
            name: [Session(one["definition"], one["launches"]) for one in cell["sessions"] if "launches" in one]
            for name, cell in self._cells.items()
        }

    def add(self, results: Sequence[CellResult], run: str, settings: Settings) -> dict[str, dict[str, Any]]:
        """Add one A/A session, write the file, and return the cells that it measured as they are now."""
        changed = {}
        for result in results:
            if len(result.log_ratios) < 2:
                continue
            cell = self._cells.setdefault(result.cell, {"sessions": []})
            flagged = result.verdict in (Verdict.SLOWER, Verdict.FASTER)
            cell["sessions"].append(
                {
                    "run": run,
                    "definition": result.definition,
                    "launches": result.baseline_launches,
                    "log_ratios": result.log_ratios,
                    "flagged": flagged,
                }
            )
            cell |= _summary(cell["sessions"], settings)
            changed[result.cell] = cell
        if changed:
            write_json(self.path, {"schema": NOISE_SCHEMA_VERSION, "cells": self._cells})
        return changed


def _summary(sessions: Sequence[dict[str, Any]], settings: Settings) -> dict[str, float]:
    """Noise within sessions, the effect that it lets a comparison detect, and the share of sessions flagged."""
    noise = noise_within([session["log_ratios"] for session in sessions])
    assert noise is not None, "a session has two pairs or more"
    return {
        "deviation": noise.deviation,
        "degrees": noise.degrees,
        "mde": minimum_detectable_effect(noise, Noise(0.0, 1), 0, settings.maximum_launches, settings),
        "false_positive_rate": sum(session["flagged"] for session in sessions) / len(sessions),
    }
