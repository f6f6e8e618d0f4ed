from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.page.report import PAGE_FILE, write_page
from tests.regression.history.nights import cell, launch, results
from tests.report.page.chromium import chromium, missing

HOSTILE = '<img src=x onerror="console.error(1)">'
NIGHTS = 14
STEP_NIGHT = 8
"""From here on the cell with a step is slower, by another version of the engine."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    """One Chromium for all tests. Where it is not installed they fail, and say what to install."""
    if (problem := missing()) is not None:
        pytest.fail(problem, pytrace=False)
    with chromium() as window:
        yield window


def night_of(number: int) -> RunResults:
    """A night of six cells: one with a step, a hostile model, one that failed, a ratio, bytes and token ids."""
    is_slow = number >= STEP_NIGHT
    value = 2.0 * (1.3 if is_slow else 1.0) * (1 + 0.002 * (number % 3))
    compared = {"baseline": 2.0, "tolerance": 0.1}
    slow: dict[str, Any] = {"verdict": "slower", "reason": "+30 % (worse)", "interval": [0.2, 0.3]} if is_slow else {}
    cells = [
        cell(value, "llama-tiny/short", launches=[value, value * 1.01], baseline_launches=[1.9, 2.0, 2.1],
             change=value / 2 - 1, engine="llama-tiny", **{**compared, **slow}),
        cell(3.0, f"{HOSTILE}/short", verdict="changed", reason=f"{HOSTILE} differs", **compared),
        cell(None, "dying/short", verdict="failed-to-run", reason="RuntimeError: </script><b>no such weights</b>"),
        cell(40.0, "llama-tiny/long", metric="max_concurrency@4096", unit="sequences", kind="exact", direction="none"),
        cell(1 << 20, "llama-tiny/long", metric="kv_cache_bytes", unit="B", kind="exact", direction="none"),
        cell("1 2 3", "llama-tiny/short", metric="leading_tokens", unit="", kind="exact", direction="none"),
    ]  # fmt: skip
    engine = "0.33.0" if is_slow else "0.32.0"
    phases = {
        "prefill_arithmetic_intensity": 30.0,
        "prefill_flops_per_second": 5e9,
        "decode_arithmetic_intensity": 0.5,
        "decode_flops_per_second": 1e9,
    }
    started = {
        **launch("llama-tiny", {"max_num_seqs": 64}),
        "conditions": {"foreign_cpu_share": 0.02},
        "cases": {"llama-tiny/short": {"values": phases}},
    }
    return RunResults.model_validate(results(number, cells, versions={"vllm": engine}, launches=[started]))


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the history of all nights but the newest, and the page of the newest."""
    folder = tmp_path_factory.mktemp("nights")
    with History(folder / "history.sqlite", create=True) as history:
        for number in range(NIGHTS - 1):
            history.add(night_of(number))
    run = night_of(NIGHTS - 1)
    own = folder / run.run_id
    own.mkdir()
    run.write(own)
    write_page(run, own, own / PAGE_FILE, folder / "history.sqlite")
    return folder


@pytest.fixture(scope="session")
def page(nights: Path) -> Path:
    [path] = nights.glob(f"*/{PAGE_FILE}")
    return path
