"""Changes between stored nights: the nights that they lie between, what differed, and whether they are accepted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.regression.history.differences import differences
from hybrid_ops.regression.history.search import MOST_RUNS, FoundChange, find_changes, open_regressions
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from tests.regression.history.nights import START, cell, launch, results

STEP_AT = 8


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history.sqlite", create=True) as opened:
        yield opened


def add(history: History, night: int, value: float, baseline: float | None = 2.0, **fields: Any) -> None:
    row = cell(value, baseline=baseline)
    history.add(RunResults.model_validate(results(night, [row], **fields)), "quick")


def step(history: History, **fields: Any) -> None:
    """Sixteen nights that become a quarter slower with the ninth, when `fields` differ."""
    source = random.Random(0)
    for night in range(2 * STEP_AT):
        is_late = night >= STEP_AT
        add(history, night, (2.5 if is_late else 2.0) * source.gauss(1, 0.01), **(fields if is_late else {}))


def changes(history: History) -> list[FoundChange]:
    [series] = history.series()
    return find_changes(history, series, MOST_RUNS)


def test_a_step_names_its_nights_and_what_differed(history: History) -> None:
    step(
        history,
        versions={"vllm": "0.33.0"},
        launches=[launch("llama-tiny", {"max_num_seqs": 32})],
    )
    [found] = changes(history)
    assert found.is_open_regression
    _, nights, differs = found.lines(history)
    assert nights == "  last good night-0007 (2026-01-08 03:00), first bad night-0008 (2026-01-09 03:00)"
    assert differs == "  differs: vllm 0.32.0 -> 0.33.0; otherwise nothing that is recorded differs"


def test_launches_machine_and_command_are_compared(history: History) -> None:
    old = [launch("llama-tiny", {"max_num_seqs": 64, "seed": 0}, {"INJECT": None}), launch("only-before", {"a": 1})]
    new = [launch("llama-tiny", {"max_num_seqs": 32, "seed": 0}, {"INJECT": "0.4"})]
    add(history, 0, 2.0, launches=old, command="pytest --perf --perf-run-id=night-0000")
    add(history, 1, 2.0, launches=new, kernel="7", command="pytest --perf --perf-run-id=night-0001 --perf-inject=40%")
    assert history.run_before("night-0000") is None
    assert history.run_before("night-0001") == "night-0000"
    assert differences(history.facts("night-0000"), history.facts("night-0001")) == (
        "kernel 6 -> 7; llama-tiny: max_num_seqs 64 -> 32, INJECT not set -> 0.4; "
        "command pytest --perf --perf-run-id=RUN -> pytest --perf --perf-run-id=RUN --perf-inject=40%; "
        "otherwise nothing that is recorded differs"
    )


def test_nights_without_a_value_between_the_good_and_the_bad_one_are_counted(history: History) -> None:
    step(history)
    between = START + timedelta(days=STEP_AT - 0.5)
    history.add_gap("lost", between, "quick", "interrupted")
    [found] = changes(history)
    assert found.lines(history)[1].endswith("; 1 between them without a value")


def test_a_change_is_accepted_by_a_new_baseline_and_not_by_time(history: History) -> None:
    step(history)
    [series] = history.series()
    assert len(open_regressions(history, [series])) == 1
    add(history, 2 * STEP_AT, 2.5, baseline=None)  # of another definition: nobody has recorded anything
    assert len(open_regressions(history, [series])) == 1
    add(history, 2 * STEP_AT + 1, 2.5, baseline=2.5)
    [found] = changes(history)
    assert found.is_worse and found.is_accepted
    assert "(worse, accepted since)" in found.lines(history)[0]
    assert open_regressions(history, [series]) == []


@pytest.mark.parametrize(("back_to", "is_undone"), [(2.0, True), (1.6, True), (2.3, False)])
def test_a_step_that_a_later_one_undoes_is_not_open(history: History, back_to: float, is_undone: bool) -> None:
    step(history)
    [series] = history.series()
    for night in range(2 * STEP_AT, 3 * STEP_AT):
        add(history, night, back_to * (1 + 0.001 * (night % 3)))
    worse = changes(history)[0]
    assert (worse.is_worse, worse.is_undone, worse.is_open_regression) == (True, is_undone, not is_undone)
    assert ("(worse, undone since)" in worse.lines(history)[0]) == is_undone
    assert len(open_regressions(history, [series], START + timedelta(days=2 * STEP_AT))) == 1, "as it was known then"


def test_a_few_quiet_nights_of_many_cells_say_nothing(history: History) -> None:
    """Seven nights of a run of 300 cells, as noisy as a shared machine: the share of false changes is controlled."""
    source = random.Random(1)
    for night in range(7):
        rows = [cell(source.gauss(1, 0.08), case=f"case-{number}") for number in range(300)]
        history.add(RunResults.model_validate(results(night, rows)))
    assert open_regressions(history, history.series()) == []
