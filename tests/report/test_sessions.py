"""The table of many A/B sessions."""

from __future__ import annotations

from typing import Any

from hybrid_ops.report.sessions import table, tally


def session(injected: str | None, verdict: str) -> dict[str, Any]:
    environment = {} if injected is None else {"HYBRID_OPS_INJECT": injected}
    cells = [("median_itl_ms", verdict), ("output_tokens", "pass"), ("median_ttft_ms", "inconclusive")]
    return {
        "arms": [{"environment": {}}, {"environment": environment}],
        "launches": [{"engine": "llama-tiny", "seconds": 20.0}, {"engine": "llama-tiny", "seconds": 22.0}],
        "cells": [{"case": "llama-tiny/short", "metric": name, "verdict": found} for name, found in cells],
    }


def test_sessions_are_counted_by_model_and_share() -> None:
    plain_run = {"arms": None}
    found = tally([session(None, "pass"), session(None, "slower"), session("0.05", "slower"), plain_run])
    assert set(found) == {("llama-tiny", "0"), ("llama-tiny", "0.05")}
    equal_arms = found["llama-tiny", "0"]
    assert equal_arms.verdicts == {"pass": 3, "slower": 1, "inconclusive": 2}
    assert equal_arms.pace_verdicts == {"pass": 1, "slower": 1}
    lines = table(found).splitlines()
    assert lines[1].split() == ["llama-tiny", "0.0%", "2", "2.0", "42", "1/6", "1/2", "0/2"]
    assert lines[2].split() == ["llama-tiny", "5.0%", "1", "2.0", "42", "1/3", "1/1", "0/1"]
