"""What a reader is told of a run's cost."""

from __future__ import annotations

import re

import pytest

from hybrid_ops.regression.cost import Cost, EngineCost, LeftOut, VerdictCost
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.cost import CostReport, night_lines
from hybrid_ops.report.numbers import show_time
from hybrid_ops.report.render import section_markdown, terminal_lines
from tests.regression.history.nights import results

LEFT_OUT = [
    LeftOut(engine="nemotron-h-tiny", cells=list("abcde"), launch_seconds=14.2, seconds_left=3.0),
    LeftOut(engine="gemma3-tiny", cells=["f"], launch_seconds=8.0, seconds_left=3.0),
]


def engine(name: str, seconds: float, gpu_seconds: float | None = 0.0, launches: int = 3) -> EngineCost:
    return EngineCost(
        engine=name,
        launches=launches,
        cells=20,
        verdicts={Verdict.PASS: 15, Verdict.INCONCLUSIVE: 5},
        seconds=seconds,
        gpu_seconds=gpu_seconds,
    )


def cost(*engines: EngineCost, left_out: list[LeftOut] | None = None, gpu_seconds: float | None = 0.0) -> Cost:
    launching = sum(one.seconds for one in engines)
    return Cost(
        seconds=launching + 70,
        launching_seconds=launching,
        waiting_seconds=10,
        other_seconds=60,
        gpu_seconds=gpu_seconds,
        budget_seconds=200,
        engines=list(engines),
        verdicts=[
            VerdictCost(verdict=Verdict.INCONCLUSIVE, cells=5, seconds=launching * 0.75, gpu_seconds=0),
            VerdictCost(verdict=Verdict.PASS, cells=15, seconds=launching * 0.25, gpu_seconds=0),
        ],
        left_out=left_out or [],
    )


def told(made: Cost | None, is_verbose: bool) -> list[str]:
    section = CostReport().section(RunResults.model_validate(results(0, []) | {"cost": made}))
    text = "\n".join(line for line, _ in terminal_lines(section, is_verbose)) if section is not None else ""
    return re.sub(r"\n {4}(?=\S)", " ", text).splitlines()  # wrapped sentences in one line again


def test_the_terminal_says_it_in_three_lines() -> None:
    made = cost(engine("nemotron-h-tiny", 300), engine("gemma3-tiny", 48, launches=1), left_out=LEFT_OUT)
    assert told(made, is_verbose=False) == [
        "7.0 min of machine, 0 min of GPU (launches 5.8 min, waiting for devices 10 s, set-up and judging 1.0 min)",
        "most: nemotron-h-tiny 5.0 min in 3 launches, gemma3-tiny 48 s in 1 launch; "
        "by verdict: inconclusive 4.3 min, pass 1.4 min",
        "left out: nemotron-h-tiny, 5 undecided cells: a launch takes 14 s and 3.0 s of the budget was left; "
        "gemma3-tiny, 1 undecided cell: a launch takes 8.0 s and 3.0 s of the budget was left; "
        "for one more launch of each: --perf-budget=220s",
    ]


def test_the_tables_are_shown_with_v_and_in_the_summary() -> None:
    made = cost(engine("nemotron-h-tiny", 300, gpu_seconds=None), gpu_seconds=None)
    lines = told(made, is_verbose=True)
    assert lines[0].startswith("6.2 min of machine, an unknown time of GPU (")
    assert ["nemotron-h-tiny", "15", "pass,", "5", "inconclusive", "3", "20", "5.0", "min", "—", "100", "%"] in [
        line.split() for line in lines
    ]
    assert any(line.split() == ["pass", "15", "1.2", "min", "0", "min", "25", "%"] for line in lines)
    section = CostReport().section(RunResults.model_validate(results(0, []) | {"cost": made}))
    assert section is not None
    assert section_markdown(section).count("\n| nemotron-h-tiny |") == 1


def test_a_run_that_cost_nothing_known_has_no_section() -> None:
    assert told(None, is_verbose=False) == []
    assert night_lines([]) == []


def test_a_night_adds_its_runs_up_by_engine() -> None:
    first = cost(engine("a", 60, gpu_seconds=60), engine("b", 90, gpu_seconds=90), gpu_seconds=150)
    second = cost(engine("a", 120, gpu_seconds=120, launches=1), gpu_seconds=120, left_out=LEFT_OUT[1:])
    assert night_lines([first, second]) == [
        "cost: 6.8 min of machine, 4.5 min of GPU; most: a 3.0 min in 4 launches, b 1.5 min in 3 launches",
        "left out: gemma3-tiny, 1 undecided cell: a launch takes 8.0 s and 3.0 s of the budget was left",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "—"), (0, "0 min"), (0.01, "0 min"), (1.44, "1.4 s"), (9.96, "10 s"), (59.6, "1.0 min"), (744, "12.4 min")],
)
def test_times_read_well(seconds: float | None, expected: str) -> None:
    assert show_time(seconds) == expected
