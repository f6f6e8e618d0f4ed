"""What a results.json must say to be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.regression.results import read_results
from tests.regression.history.nights import cell, results


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 7}, "schema: this release reads version 1, the file says 7"),
        ({"started": "yesterday"}, "started: .*yesterday"),
        ({"device": {}}, "device.class: Field required"),
        ({"cells": [{"case": "x"}]}, "cells.0.cell: Field required; .* more$"),
        ({"cells": 3}, "cells: .*valid list"),
        ({"cells": [cell(1.5), cell(1.6)]}, "the cell llama-tiny/decode-itl_ms.median is there twice"),
        ({"launches": [{"engine": "x"}]}, "launches.0.LaunchRecord.index: Field required"),
    ],
)
def test_incomplete_results_are_refused_in_one_line_by_file_and_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results(0, [cell(1.0)]) | change))
    with pytest.raises(InputError, match=message) as refused:
        read_results(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not JSON"), (b"[]", "not the results.json of a run"), (b"\xff", "not JSON"), (None, "cannot be read")],
)
def test_a_file_that_is_no_results_json_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"results\.json: {message}"):
        read_results(path)


def test_what_a_kind_of_work_adds_is_read_back_by_its_name(tmp_path: Path) -> None:
    document = results(0, [cell(1.0)]) | {"loads": {"llama-tiny/load": {"sweep": None}}}
    (tmp_path / "results.json").write_text(json.dumps(document))
    run = read_results(tmp_path)
    assert run.details("loads") == {"llama-tiny/load": {"sweep": None}}
    assert run.details("rollouts") == {}
    run.write(tmp_path)
    assert read_results(tmp_path) == run
