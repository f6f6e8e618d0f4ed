"""Made-up results of nights, as a run writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 3, tzinfo=UTC)


def results(night: int, cells: list[dict], device: str = "h200") -> dict:
    return {
        "schema": 1,
        "run_id": f"night-{night:04}",
        "started": (START + timedelta(days=night)).isoformat(),
        "device": {"class": device},
        "versions": {"vllm": "0.32.0"},
        "cells": cells,
    }


def cell(value: float | str | None, case: str = "llama-tiny/decode", **fields: object) -> dict:
    row = {"metric": "itl_ms.median", "unit": "ms", "kind": "absolute", "direction": "lower", "verdict": "pass"}
    return {"case": case, "value": value, "launches": [value], **row, **fields}
