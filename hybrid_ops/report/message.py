"""What a testcase says of its cell: the message of a failure or skip, and the properties in JUnit."""

from __future__ import annotations

import json
from typing import Any

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.numbers import show, show_change


def keyword(case: str) -> str:
    """The expression of pytest's `-k` that chooses a case; it cannot have an `@`."""
    return case.replace("@", " and ")


def cell_message(result: CellResult) -> str:
    """The verdict with its numbers, where they come from and what to do. Viewers that ignore properties show it."""
    arms = result.compared_with == "arm a"
    now, before = ("in arm b", "in arm a") if arms else ("now", "in the baseline")
    head = f"{result.case} {result.metric}: {result.verdict.value}"
    if result.verdict in (Verdict.SLOWER, Verdict.FASTER, Verdict.CHANGED, Verdict.INCONCLUSIVE):
        change = f" ({show_change(result.change)})" if result.change is not None else ""
        tolerance = f", tolerance {result.tolerance:.1%}" if result.tolerance is not None else ""
        head += f": {show(result.value, result.unit)} {now}"
        if result.bound is None or arms:
            head += f", {show(result.baseline, result.unit)} {before}{change}{tolerance}"
    lines = [head, result.reason]
    if result.launches and result.verdict is not Verdict.PASS:
        lines.append("launches: " + ", ".join(show(value, result.unit) for value in result.launches))
    if result.baseline_file is not None:
        lines.append(f"baseline: {result.baseline_file}")
    if result.log is not None and result.verdict.is_bad:
        lines.append(f"engine log: {result.log}")
    recordable = (Verdict.SLOWER, Verdict.FASTER, Verdict.CHANGED, Verdict.MISSING_BASELINE)
    if result.verdict in recordable and not arms and result.bound is None:
        lines.append(f"if this is intended: run the same command with --update-baselines -k '{keyword(result.case)}'")
    return "\n".join(lines)


def cell_properties(result: CellResult, run: RunResults) -> dict[str, str]:
    """The properties of the testcase in JUnit, as strings. Structured values are JSON."""
    properties: dict[str, Any] = {
        "case": result.case,
        "metric": result.metric,
        "kind": result.kind,
        "unit": result.unit,
        "verdict": result.verdict.value,
        "value": result.value,
        "baseline": result.baseline,
        "tolerance": result.tolerance,
        "bound": result.bound,
        "change": result.change,
        "interval": result.interval,
        "mde": result.mde,
        "launches": result.launches,
        "baseline_file": result.baseline_file,
        "reason": result.reason,
        "reference_kernels": result.reference_kernels or None,
        "log": result.log,
        "device": run.device.name,
        "device_class": run.device.device_class,
        "versions": run.versions,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in properties.items()
        if value is not None
    }
