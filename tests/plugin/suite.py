"""A small suite on the no-op engine, run by real pytest processes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.engines.devices.leases import LOCKS
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.run.run import PEAKS_FILE
from hybrid_ops.yaml_files import round_trip_yaml
from tests.plugin.forked import PARENTS

WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
  wide: {description: two prompts, prompt_tokens: 8, generation_tokens: 4, num_prompts: 2}
suites:
  quick: [brief]
  standard: [brief]
  full: [brief, wide]
"""
LEAN = ("-p", "no:hypothesispytest", "-p", "no:anyio")
"""Plugins of pytest that these runs do not need: importing them takes as long as everything else in a run."""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

def test_ordinary():
    pass
"""


def unwrapped(result: pytest.RunResult) -> pytest.LineMatcher:
    """The lines of a run's terminal, each wrapped sentence in one line again."""
    return pytest.LineMatcher(re.sub(r"\n {4}(?=\S)", " ", result.stdout.str()).splitlines())


class Suite:
    """A project folder whose zoo has only the models given here, on the no-op engine."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        pytester.makeconftest('pytest_plugins = ["hybrid_ops.plugin"]')
        pytester.makepyfile(test_suite=TEST_FILE)
        pytester.makefile(".toml", pyproject='[tool.pytest.ini_options]\naddopts = "--strict-markers"\n')
        (self.root / "config.json").write_text('{"vocab_size": 100}')
        (self.root / "workloads.yaml").write_text(WORKLOADS)
        # Leases of devices are the whole machine's: keep the suites of parallel tests apart.
        pytester._monkeypatch.setenv(LOCKS, str(self.root / "leases"))
        # The run must test this checkout, even where another one is installed (as in a second git worktree).
        # Pytest rewrites the assertions of plugins, and would do so in each run if it could not keep what it made.
        pytester._monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        pytester._monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        self.models: dict[str, dict[str, Any]] = {}

    def add_model(self, name: str, **entry: Any) -> None:
        self.models[name] = {
            "architecture": "none",
            "config": "config.json",
            "engine": "noop",
            "platforms": ["cpu"],
            **entry,
        }
        with (self.root / "zoo.yaml").open("w") as file:
            round_trip_yaml().dump({"schema_version": 1, "models": self.models}, file)

    @property
    def arguments(self) -> list[str]:
        """Options that make the run see this suite's models alone."""
        # The no-op engine's times are made up, so whatever else runs beside the tests does not matter to them.
        return [
            "--perf",
            "--perf-device=cpu",
            "--perf-foreign-cpu=100%",
            "--perf-models=zoo.yaml",
            "--perf-workloads=workloads.yaml",
            *LEAN,
            "-k",
            " or ".join(re.escape(name) + "/" for name in self.models),
        ]

    def know_peaks(self) -> None:
        """Record peaks of this machine, made up, because measuring them takes longer than a run."""
        peaks = DevicePeaks("made up", {"bfloat16": 1e12, "float32": 1e12}, 1e10, None, "made up")
        path = self.root / "perf_baselines" / cpu().device_class / PEAKS_FILE
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(asdict(peaks)))

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytest(*self.arguments, "--junitxml=junit.xml", *arguments)

    def pytest(self, *arguments: str) -> pytest.RunResult:
        """A run with these options alone, in the suite's folder."""
        return PARENTS.run(self.root, *arguments)

    def results(self) -> dict[str, Any]:
        """`results.json` of the latest run."""
        return json.loads(max((self.root / "perf_results").glob("*/results.json")).read_text())

    def verdicts(self) -> dict[str, str]:
        return {cell["cell"]: cell["verdict"] for cell in self.results()["cells"]}

    def baseline_files(self, model: str) -> list[Path]:
        return sorted((self.root / "perf_baselines").glob(f"*/{model}.yaml"))

    def baseline(self, model: str, case: str, metric: str) -> dict[str, Any]:
        """One recorded cell, from whichever file it lies in."""
        return self._recorded(model, case, metric)[2]

    def edit_baseline(self, model: str, case: str, metric: str, change: Callable[[Any], Any], **fields: Any) -> Path:
        """Change one recorded value, and other fields of its cell, as a person would."""
        path, document, cell = self._recorded(model, case, metric)
        cell["value"] = change(cell["value"])
        cell.update(fields)
        with path.open("w") as file:
            round_trip_yaml().dump(document, file)
        return path

    def _recorded(self, model: str, case: str, metric: str) -> tuple[Path, Any, dict[str, Any]]:
        for path in self.baseline_files(model):
            document = round_trip_yaml().load(path.read_text())
            cells = document["cases"].get(case, {}).get("metrics", {})
            if metric in cells:
                return path, document, cells[metric]
        raise AssertionError(f"no baseline of {case} {metric}")
