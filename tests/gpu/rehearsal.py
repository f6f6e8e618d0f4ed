"""A project whose models run on the stub of a CUDA engine, on cards of the stub of NVML. Real pytest processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hybrid_ops.models.configs import find_config
from hybrid_ops.yaml_files import round_trip_yaml
from tests.gpu.nvml_stub import StubCards

ROOT = Path(__file__).parents[2]
PLUGIN = "tests.gpu.cuda_stub"
WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
probes:
  cache: {kind: cache, description: figures, lengths: [100]}
  cold: {kind: start, description: a cold start}
suites:
  quick: [brief]
  standard: [brief, cache, cold]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

@pytest.mark.perf
def test_probe(probe_cell):
    check(probe_cell)
"""


class Rehearsal:
    """A project folder, in which `pytest -m gpu --perf` measures stubs of engines."""

    def __init__(self, root: Path, cards: StubCards) -> None:
        self.root = root
        self.models: dict[str, dict[str, Any]] = {}
        self.environment = {**os.environ, **cards.environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(root / "tmp")}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        (root / "tmp").mkdir(parents=True)
        (root / "workloads.yaml").write_text(WORKLOADS)
        (root / "test_suite.py").write_text(TEST_FILE)
        (root / "conftest.py").write_text(f'pytest_plugins = ["hybrid_ops.plugin", "{PLUGIN}"]\n')
        (root / "pytest.ini").write_text("[pytest]\n")

    def add_model(self, name: str, config: str = "llama-3.2-1b", **arguments: Any) -> None:
        """A model of the size of `config`."""
        self.models[name] = {
            "architecture": "a stub",
            "config": str(find_config(config)),
            "engine": "cuda-stub",
            "platforms": ["cuda"],
            "arguments": arguments,
        }
        with (self.root / "zoo.yaml").open("w") as file:
            round_trip_yaml().dump({"schema_version": 1, "models": self.models}, file)

    @property
    def arguments(self) -> list[str]:
        chosen = " or ".join(self.models)
        return [
            "--perf-models=zoo.yaml", "--perf-workloads=workloads.yaml", "-k", chosen, "-m", "gpu",
            "-p", "no:hypothesispytest", "-p", "no:anyio",
        ]  # fmt: skip

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(["-m", "pytest", "--perf", "--perf-suite=standard", *self.arguments, *arguments])

    def prove(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ci/gpu`."""
        return self._run(["-m", "hybrid_ops.cli", "gpu", *arguments, "--", *self.arguments])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )

    def results(self) -> dict[str, Any]:
        """`results.json` of the latest run."""
        newest = max((self.root / "perf_results").glob("*/results.json"), key=lambda path: path.stat().st_mtime_ns)
        return json.loads(newest.read_text())

    def cells(self) -> dict[str, dict[str, Any]]:
        return {cell["cell"]: cell for cell in self.results()["cells"]}
