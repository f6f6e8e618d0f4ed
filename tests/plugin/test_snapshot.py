"""One suite of every kind of work on the no-op engine: its cells, verdicts, JUnit names and baseline files, as stored.

`snapshot.json` was recorded before engines, procedures and reports became one file each. A change of it is a change of
what users see, so it is made on purpose: the test writes what it found beside the stored file's name in its own folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hybrid_ops.yaml_files import round_trip_yaml
from tests.plugin.suite import Suite
from tests.serving.conftest import FAKE_COMMAND

SNAPSHOT = Path(__file__).with_name("snapshot.json")
WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
  wide: {description: two prompts, prompt_tokens: 8, generation_tokens: 4, num_prompts: 2}
serving:
  load:
    description: a few requests
    prompt_tokens: 8
    generation_tokens: 16
    num_prompts: 2
    max_concurrency: [1]
    goodput: {ttft: 10000}
    timed_iterations: 1
    warmup_iterations: 0
probes:
  cache: {kind: cache, description: figures, lengths: [100, 300]}
  prefixes: {kind: prefix, description: hits, shared_tokens: [8, 40]}
rollouts:
  roll: {description: small, prompt_tokens: 64, generation_tokens: [128, 1000], num_prompts: 2, samples: 3}
comparisons:
  three:
    description: small
    models: {toy: {full: toy-full, sliding: toy-sliding, hybrid: toy-hybrid}}
    prompt_tokens: [32, 64, 128]
    generation_tokens: 8
    num_prompts: 2
    timed_iterations: 3
configurations:
  caching: {arguments: {enable_prefix_caching: true, dtype: float32}, models: [steady]}
suites:
  quick: [brief, steady/wide, cache, cache@caching, prefixes@caching, three, steady/roll]
  loads: [load]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

@pytest.mark.perf
def test_hybrid_attention(comparison_cell):
    check(comparison_cell)

@pytest.mark.perf
def test_kv_cache(probe_cell):
    check(probe_cell)

@pytest.mark.perf
def test_serving(serving_cell):
    check(serving_cell)
"""
CONFIG = '{"vocab_size": 1000, "max_position_embeddings": 68, "sliding_window": null}'
FIELDS = ("unit", "kind", "direction", "verdict")
MODELS: dict[str, dict[str, Any]] = {
    "steady": {"context": 600},
    "follower": {"reference": "steady", "arguments": {"step_ms": 3.0}, "suites": ["quick"]},
    "broken": {"arguments": {"fail": {"on": "generate", "how": "raise", "message": "no kernel"}}, "suites": ["quick"]},
    "known": {
        "arguments": {"fail": {"on": "load", "how": "raise", "message": "not yet"}},
        "expected_failures": [{"platform": "cpu", "reason": "not written yet", "matches": "not yet"}],
        "suites": ["quick"],
    },
    "stand-in": {"arguments": {"reference_kernels": ["scan"]}, "suites": ["quick"]},
    "toy-full": {"suites": ["quick"]},
    "toy-sliding": {"arguments": {"step_ms": 1.0, "window": 16}, "suites": ["quick"]},
    "toy-hybrid": {"arguments": {"step_ms": 1.0, "window": 16}, "suites": ["quick"]},
    "served": {"server_command": list(FAKE_COMMAND), "suites": ["loads"]},
}


@pytest.fixture
def every_kind(suite: Suite) -> Suite:
    suite.pytester.makepyfile(test_suite=TEST_FILE)
    (suite.root / "workloads.yaml").write_text(WORKLOADS)
    (suite.root / "config.json").write_text(CONFIG)
    for name, entry in MODELS.items():
        suite.add_model(name, **entry)
    return suite


def run(suite: Suite, *arguments: str) -> None:
    options = suite.arguments[: suite.arguments.index("-k")]
    names = " or ".join(f"{name}" for name in MODELS)
    suite.pytest(*options, "-k", names, "--junitxml=junit.xml", *arguments)


def cells(suite: Suite) -> dict[str, dict[str, Any]]:
    """Every cell of the latest run, with its value where the no-op engine made it up."""
    found = {}
    for cell in suite.results()["cells"]:
        found[cell["cell"]] = {field: cell[field] for field in FIELDS}
        if not cell["case"].startswith("served"):
            found[cell["cell"]]["value"] = cell["value"]
    return found


def junit_names(suite: Suite) -> list[str]:
    root = ElementTree.parse(suite.root / "junit.xml").getroot()
    return sorted(f"{case.get('classname')}::{case.get('name')}" for case in root.iter("testcase"))


def baseline_files(suite: Suite) -> dict[str, Any]:
    """Every recorded metric by file and case, less what differs from run to run and machine to machine."""
    found: dict[str, Any] = {}
    for path in sorted((suite.root / "perf_baselines").glob("*/*.yaml")):
        document = round_trip_yaml().load(path.read_text())
        folder = path.parent.name if path.parent.name in ("any", "cpu") else "device class"
        assert list(document) == ["schema_version", "model", "device_class", "cases"]
        for name, case in document["cases"].items():
            assert list(case) == ["recorded", "definition", "metrics"]
            assert list(case["recorded"]) == ["run", "date", "device", "versions"]
            metrics = {metric: dict(cell) for metric, cell in case["metrics"].items()}
            found.setdefault(f"{folder}/{path.name}", {})[name] = metrics
    return found


def picture(suite: Suite) -> dict[str, Any]:
    """All that is held still, from four runs: a first one, an update, edited baselines, loads on a server."""
    run(suite)
    first, names = cells(suite), junit_names(suite)
    run(suite, "--update-baselines")
    recorded = baseline_files(suite)
    suite.edit_baseline("steady", "steady/brief", "output_throughput", lambda value: value * 1.5)
    suite.edit_baseline("steady", "steady/wide", "median_itl_ms", lambda value: value * 1.5)
    suite.edit_baseline("steady", "steady/brief", "scheduler_steps", lambda value: value + 1)
    run(suite)
    edited = {name: cell["verdict"] for name, cell in cells(suite).items()}
    run(suite, "--perf-suite=loads", "--perf-launches=1")
    return {
        "first run": first,
        "junit": names,
        "baselines": recorded,
        "edited baselines": edited,
        "loads": cells(suite),
        "junit of loads": junit_names(suite),
    }


@pytest.mark.long
def test_the_suite_is_as_stored(every_kind: Suite) -> None:
    found = json.loads(json.dumps(picture(every_kind)))
    (every_kind.root / SNAPSHOT.name).write_text(json.dumps(found, sort_keys=True))
    stored = json.loads(SNAPSHOT.read_text())
    for part, expected in stored.items():
        assert found[part] == expected, part
