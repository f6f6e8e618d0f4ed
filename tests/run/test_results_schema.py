"""The JSON Schema of `results.json` in docs/, and real runs held against it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from hybrid_ops.regression.results import RunResults
from tests.plugin.suite import Suite

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "results.schema.json"
MAKE = (
    "python -c 'import json; from hybrid_ops.regression.results import RunResults; "
    'print(json.dumps(RunResults.model_json_schema(by_alias=True, mode="serialization"), indent=2))\' '
    "> docs/results.schema.json"
)


def test_the_schema_in_docs_is_that_of_the_code() -> None:
    stored = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert stored == RunResults.model_json_schema(by_alias=True, mode="serialization"), f"make it anew:\n{MAKE}"


def test_real_results_are_of_the_schema(suite: Suite) -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    suite.add_model("steady")
    suite.add_model("broken", arguments={"fail": {"on": "load", "how": "raise"}})
    suite.run("--update-baselines", "-k", "(steady or broken) and brief-output_")
    plain = suite.results()
    validator.validate(plain)
    suite.run("--perf-ab", "--perf-inject=5%", "--perf-launches=1", "-k", "steady/brief-output_")
    arms = suite.results()
    validator.validate(arms)
    assert {"cells", "launches", "update"} <= plain.keys() and arms["arms"] is not None
    faults = list(validator.iter_errors({**plain, "cells": [{**plain["cells"][0], "verdict": "fine"}]}))
    assert [list(fault.path) for fault in faults] == [["cells", 0, "verdict"]], "the schema lets nothing else pass"
