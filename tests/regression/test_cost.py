"""What a run cost: its time is the sum of its parts, and what launches took is shared wholly among cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.procedures.generation import Generation
from hybrid_ops.measure.records import CaseRecord, LaunchRecord, PairRecord, Record
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.regression.cost import Cost, run_cost
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.workloads.batch import ClosedBatch
from tests.regression.history import nights

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = ClosedBatch(description="a few", prompt_tokens=8, generation_tokens=4)
MODELS = ("llama-tiny", "nemotron-h-tiny")
CASES = {
    f"{model}/{name}": Case(EngineSpec(model, load_zoo()[model], "cpu", Noop()), name, BATCH, Generation())
    for model in MODELS
    for name in ("short", "long")
}
METRICS = Generation.metrics[:2]
CELLS = [Cell(case, metric) for case in CASES.values() for metric in METRICS]
EVERYTHING = [cell.id for cell in CELLS]


def result(cell: str, verdict: str) -> CellResult:
    made = nights.cell(1.0, case=cell.rpartition("-")[0], cell=cell, verdict=verdict)
    return RunResults.model_validate(nights.results(0, [made])).cells[0]


def launch(
    model: str, start: float, seconds: float, index: int = 1, platform: str = "cpu", waited: float = 0.0, **cases: float
) -> LaunchRecord:
    """A launch that began `start` seconds after the run, and measured each case for so many seconds."""
    return LaunchRecord(
        launch_name=model,
        index=index,
        started=(START + timedelta(seconds=start)).isoformat(timespec="milliseconds"),
        seconds=seconds,
        log="",
        device={"platform": platform},
        arguments={},
        environment={},
        cases={f"{model}/{name}": CaseRecord(seconds=taken) for name, taken in cases.items()},
        waited=waited,
    )


def cost(elapsed: float, records: Sequence[Record], verdicts: dict[str, str] | None = None, **made_for: Any) -> Cost:
    """The cost of a run in which each launch was made for all cells of its engine, unless said otherwise."""
    results = [result(cell, (verdicts or {}).get(cell, "pass")) for cell in EVERYTHING]
    whose = {(one.launch_name, one.index): EVERYTHING for one in records} | made_for.get("made_for", {})
    return run_cost(elapsed, 200.0, CELLS, results, records, whose, [])


def by_engine(found: Cost) -> dict[str, float]:
    return {engine.engine: engine.seconds for engine in found.engines}


def by_verdict(found: Cost) -> dict[str, float]:
    return {one.verdict.value: one.seconds for one in found.verdicts}


def test_a_run_is_its_launches_its_waiting_and_the_rest() -> None:
    found = cost(30, [launch("llama-tiny", 5, 10, short=8), launch("nemotron-h-tiny", 18, 4, waited=3, short=3)])
    assert (found.launching_seconds, found.waiting_seconds, found.other_seconds) == (14, 3, 13)
    assert by_engine(found) == {"llama-tiny": 10, "nemotron-h-tiny": 4}
    assert found.gpu_seconds == 0


def test_launches_side_by_side_cost_more_than_they_last_and_no_waiting_is_counted_under_them() -> None:
    together = [
        launch("llama-tiny", 0, 10, platform="cuda", short=8),
        launch("nemotron-h-tiny", 4, 10, platform="cuda", waited=4, short=8),
    ]
    found = cost(15, together)
    assert (found.launching_seconds, found.waiting_seconds, found.other_seconds) == (14, 0, 1)
    assert sum(by_engine(found).values()) == found.gpu_seconds == 20


def test_what_stands_behind_a_running_server_is_not_known() -> None:
    found = cost(20, [launch("llama-tiny", 0, 10, platform="server"), launch("nemotron-h-tiny", 10, 5)])
    assert found.gpu_seconds is None
    assert {engine.engine: engine.gpu_seconds for engine in found.engines} == {
        "llama-tiny": None,
        "nemotron-h-tiny": 0,
    }
    assert [one.gpu_seconds for one in found.verdicts] == [None]


def test_a_launch_is_shared_by_the_time_of_each_case_and_then_by_its_cells() -> None:
    short = [cell.id for cell in CELLS if cell.case.id == "llama-tiny/short"]
    record = launch("llama-tiny", 0, 12, short=6, long=2)
    found = cost(12, [record], {short[0]: "slower"})
    assert by_verdict(found) == pytest.approx({"slower": 12 * 3 / 4 / 2, "pass": 12 * (3 / 4 / 2 + 1 / 4)})
    engine = found.engines[0]
    assert (engine.launches, engine.cells, engine.verdicts) == (1, 4, {Verdict.PASS: 3, Verdict.SLOWER: 1})


def test_a_later_launch_is_spent_on_the_cells_that_it_was_made_for() -> None:
    [open_cell] = [cell.id for cell in CELLS if cell.id == f"llama-tiny/short-{METRICS[0].name}"]
    records = [launch("llama-tiny", 0, 4, short=1, long=1), launch("llama-tiny", 4, 7, index=2, short=2)]
    found = cost(11, records, {open_cell: "inconclusive"}, made_for={("llama-tiny", 2): {open_cell}})
    assert by_verdict(found) == pytest.approx({"inconclusive": 1 + 7, "pass": 3})


def test_a_launch_that_reached_no_case_is_shared_equally() -> None:
    cells = {cell.id: "failed-to-run" for cell in CELLS if cell.case.id == "llama-tiny/short"}
    assert by_verdict(cost(9, [launch("llama-tiny", 0, 8)], cells)) == pytest.approx({"failed-to-run": 4, "pass": 4})


def test_a_pair_counts_its_wall_time_once_and_both_launches() -> None:
    arms = [launch("llama-tiny", 0, 10, short=8), launch("llama-tiny", 0, 10, short=8)]
    pair = PairRecord("llama-tiny", 1, arms[0].started, 10.0, "live", arms)
    found = cost(10, [pair])
    assert (found.engines[0].launches, found.engines[0].seconds, found.launching_seconds) == (2, 10, 10)


MOMENTS = st.floats(0, 1e4, allow_subnormal=False)


@given(
    st.lists(st.tuples(MOMENTS, MOMENTS, MOMENTS, st.dictionaries(st.sampled_from(["short", "long"]), MOMENTS))),
    MOMENTS,
)
def test_the_sums_hold_for_any_launches(made: list[tuple[float, float, float, dict[str, float]]], more: float) -> None:
    records = [
        launch(MODELS[index % 2], start, seconds, index=index, waited=waited, **cases)
        for index, (start, seconds, waited, cases) in enumerate(made)
    ]
    found = cost(more, records)
    parts = (found.launching_seconds, found.waiting_seconds, found.other_seconds)
    assert min(parts) >= -1e-6
    assert sum(parts) == pytest.approx(found.seconds, abs=1e-6) and found.seconds >= more
    whole = math.fsum(record.seconds for record in records)
    assert sum(by_engine(found).values()) == pytest.approx(whole)
    assert sum(by_verdict(found).values()) == pytest.approx(whole)
    assert found.launching_seconds <= whole + 1e-6
