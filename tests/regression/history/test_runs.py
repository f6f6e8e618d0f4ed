"""What a results.json must say to be kept."""

from __future__ import annotations

import json

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.regression.history.runs import read_run
from tests.regression.history.nights import START, cell, results


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 7}, r"schema: .* \(given: 7\)"),
        ({"started": "yesterday"}, "started: .*yesterday"),
        ({"device": {}}, "device.class: Field required"),
        ({"cells": [{"case": "x"}]}, "cells.0.metric: Field required; .*; and 2 more$"),
        ({"cells": [cell([1])]}, "cells.0.value.float: "),
        ({"cells": 3}, "cells: .*valid list"),
        ({"cells": [cell(1.5), cell(1.6)]}, "the cell llama-tiny/decode itl_ms.median is there twice"),
    ],
)
def test_incomplete_results_are_refused_in_one_line_by_file_and_field(tmp_path, change, message):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results(0, [cell(1.0)]) | change))
    with pytest.raises(InputError, match=message) as refused:
        read_run(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not JSON"), (b"[]", "not the results.json of a run"), (b"\xff", "not JSON"), (None, "cannot be read")],
)
def test_a_file_that_is_no_results_json_is_named(tmp_path, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"results\.json: {message}"):
        read_run(path)


def test_a_value_is_a_number_or_a_text_or_nothing(tmp_path):
    path = tmp_path / "results.json"
    cells = [cell(value, case=str(index)) for index, value in enumerate([1.5, 3, "abc", None, float("nan")])]
    path.write_text(json.dumps(results(0, cells)))
    run = read_run(path)
    assert run.started == START
    assert [(cell.number, cell.text) for cell in run.cells] == [
        (1.5, None),
        (3.0, None),
        (None, "abc"),
        (None, None),
        (None, None),
    ]
