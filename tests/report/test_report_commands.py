"""The commands to measure again and to accept: exact lines for a shell."""

from __future__ import annotations

import shlex
from typing import Any

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.commands import accept, measure_again
from tests.regression.history.nights import cell, results


def run_of(*cells: dict[str, Any], **fields: Any) -> RunResults:
    return RunResults.model_validate(results(0, list(cells), **fields))


def test_a_cell_is_measured_again_as_the_run_did_and_accepted() -> None:
    command = "pytest --perf --perf-suite=full --perf-run-id=old -k 'a or b' '--perf-baselines=my folder'"
    run = run_of(cell(1.0, "llama-tiny/short", verdict="slower"), command=command)
    again = "pytest --perf --perf-suite=full '--perf-baselines=my folder' -k llama-tiny/short"
    assert measure_again(run, run.cells) == again
    assert accept(run, run.cells) == again.replace(" -k ", " --update-baselines -k ")


def test_a_name_cannot_end_its_word_in_a_shell() -> None:
    run = run_of(cell(1.0, "a'; rm -rf b/short", verdict="slower"))
    line = measure_again(run, run.cells)
    assert line is not None and shlex.split(line)[-1] == "a'; rm -rf b/short"


def test_only_what_a_baseline_settles_is_accepted() -> None:
    run = run_of(cell(None, "a/short", verdict="failed-to-run"), cell(1.0, "b/short", verdict="changed"))
    assert measure_again(run, run.cells) == "pytest --perf -k 'a/short or b/short'"
    assert accept(run, run.cells) == "pytest --perf --update-baselines -k b/short"
    assert accept(run, run.cells[:1]) is None


def test_many_cases_are_named_by_their_models() -> None:
    run = run_of(*(cell(1.0, f"a/{number}", verdict="slower") for number in range(5)))
    assert measure_again(run, run.cells) == "pytest --perf -k a/"


def test_there_is_no_command_for_arms_imported_runs_or_nothing() -> None:
    arm = {"interpreter": "python", "environment": {}, "arguments": {}}
    slow = cell(1.0, "a/short", verdict="slower")
    arms = run_of(slow, arms=[{"name": name, **arm} for name in "ab"], command="pytest --perf --perf-ab")
    assert measure_again(arms, arms.cells) == "pytest --perf --perf-ab -k a/short"
    assert accept(arms, arms.cells) is None
    imported = run_of(slow, command="hybrid-perf import bench.json")
    assert measure_again(imported, imported.cells) is None and accept(imported, imported.cells) is None
    assert measure_again(arms, []) is None
