"""Made-up results of nights, as a run writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 1, 3, tzinfo=UTC)
DEVICE = {"platform": "cuda", "name": "H200", "uuid": None, "cores": 16, "memory_bytes": 1 << 37, "kernel": "6"}


def results(
    night: int, cells: list[dict[str, Any]], device: str = "h200", kernel: str = "6", **fields: Any
) -> dict[str, Any]:
    return {
        "schema": 1,
        "run_id": f"night-{night:04}",
        "command": "pytest --perf",
        "started": (START + timedelta(days=night)).isoformat(),
        "seconds": 60.0,
        "device": {**DEVICE, "class": device, "kernel": kernel},
        "versions": {"vllm": "0.32.0"},
        "cells": cells,
        "launches": [],
        **fields,
    }


def launch(name: str, arguments: dict[str, Any], environment: dict[str, str | None] | None = None) -> dict[str, Any]:
    return {
        "engine": name,
        "index": 1,
        "started": START.isoformat(),
        "seconds": 1.0,
        "log": "engine.log",
        "device": {},
        "arguments": arguments,
        "environment": environment or {},
    }


def cell(value: float | str | None, case: str = "llama-tiny/decode", **fields: object) -> dict[str, Any]:
    row = {"metric": "itl_ms.median", "unit": "ms", "kind": "absolute", "direction": "lower", "verdict": "pass"}
    unknown = ("baseline", "tolerance", "change", "interval", "p_value", "mde", "baseline_file", "log")
    told = {"case": case, "value": value, "launches": [] if value is None else [value], **row, **fields}
    return {
        "cell": f"{told['case']}-{told['metric']}",
        "reason": "",
        "decided": True,
        "baseline_launches": [],
        "definition": "",
        **dict.fromkeys(unknown),
        **told,
    }
