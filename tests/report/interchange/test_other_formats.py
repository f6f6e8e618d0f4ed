"""What other programs read of a run: OpenMetrics text, and the lists of github-action-benchmark."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from hybrid_ops.errors import InputError
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.interchange.github_action_benchmark import GithubActionBenchmark
from hybrid_ops.report.interchange.openmetrics import OpenMetrics
from tests.regression.history import nights

ODD = 'llama "tiny"\\x/de\ncode'
CELLS = [
    nights.cell(1.5, launches=[1.4, 1.6], baseline=1.4, verdict="slower"),
    nights.cell(900, metric="output_throughput", unit="tok/s", direction="higher", case=ODD),
    nights.cell(4096, metric="bytes", unit="B", kind="exact", direction="none"),
    nights.cell("abc", metric="output_hash", unit="", kind="exact", direction="none", baseline="abd"),
    nights.cell(9.0, metric="ttft_ms", verdict="failed-to-run"),
    nights.cell(None, metric="tpot_ms", verdict="failed-to-run"),
]
COST = {
    **dict.fromkeys(("seconds", "launching_seconds", "waiting_seconds", "other_seconds", "budget_seconds"), 10.0),
    "gpu_seconds": 0,
    "engines": [{"engine": "llama-tiny", "launches": 1, "cells": 1, "verdicts": {}, "seconds": 9.5, "gpu_seconds": 0}],
    "verdicts": [],
    "left_out": [],
}


def run(**fields: Any) -> RunResults:
    return RunResults.model_validate(nights.results(0, CELLS) | fields)


def families(made: RunResults) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The samples of each metric family, as a parser of the format reads them."""
    [part] = OpenMetrics().write(made)
    assert part.text.endswith("# EOF\n")
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(part.text)
    }


def test_openmetrics_has_a_value_for_each_measured_number_and_a_state_for_each_cell() -> None:
    found = families(run(cost=COST))
    values = {(labels["case"], labels["metric"]): value for labels, value in found["hybrid_perf_value"]}
    assert values == {
        ("llama-tiny/decode", "itl_ms.median"): 1.5,
        (ODD, "output_throughput"): 900,
        ("llama-tiny/decode", "bytes"): 4096,
    }
    assert found["hybrid_perf_value"][1][0] == {
        "case": ODD, "metric": "output_throughput", "unit": "tok/s", "kind": "absolute", "direction": "higher",
        "device_class": "h200",
    }  # fmt: skip
    assert [value for _, value in found["hybrid_perf_baseline"]] == [1.4]
    states = found["hybrid_perf_verdict"]
    assert len(states) == len(CELLS) * len(Verdict)
    holds = [(labels["metric"], labels["hybrid_perf_verdict"]) for labels, value in states if value == 1]
    assert holds == [(cell["metric"], cell["verdict"]) for cell in CELLS]
    assert found["hybrid_perf_engine_seconds"] == [({"engine": "llama-tiny", "device_class": "h200"}, 9.5)]
    assert found["hybrid_perf_run_start_time_seconds"][0][1] == nights.START.timestamp()


def test_openmetrics_of_a_run_names_it_and_its_versions_once() -> None:
    found = families(run(versions={"hybrid-ops": "0.1", "llama.cpp": "b1"}))
    [(labels, _)] = found["hybrid_perf_run"]
    assert labels == {
        "run": "night-0000", "device": "H200", "device_class": "h200", "hybrid_ops": "0.1", "llama_cpp": "b1",
    }  # fmt: skip
    assert "hybrid_perf_engine_seconds" not in found, "its cost is not known"


def test_openmetrics_of_an_empty_run_is_valid() -> None:
    assert families(RunResults.model_validate(nights.results(0, []) | {"started": ""}))["hybrid_perf_value"] == []


def test_github_action_benchmark_has_a_list_for_each_direction() -> None:
    lists = {part.name: json.loads(part.text) for part in GithubActionBenchmark().write(run())}
    assert lists == {
        "bigger": [
            {
                "name": f"{ODD} output_throughput",
                "unit": "tok/s",
                "value": 900,
                "extra": "verdict: pass\nlaunches: 900",
            }
        ],
        "smaller": [
            {
                "name": "llama-tiny/decode itl_ms.median",
                "unit": "ms",
                "value": 1.5,
                "range": "1.4 to 1.6",
                "extra": "verdict: slower\nlaunches: 1.4, 1.6\nbaseline: 1.4",
            }
        ],
    }


def test_github_action_benchmark_without_a_direction_is_refused() -> None:
    with pytest.raises(InputError, match=r"^no cell has a number and a direction$"):
        GithubActionBenchmark().write(RunResults.model_validate(nights.results(0, CELLS[2:])))
