"""The package as others have it: installed from its wheel, used in a repository that is not this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.yaml_files import round_trip_yaml

ROOT = Path(__file__).parents[1]
ZOO = {
    "schema_version": 1,
    "models": {"theirs": {"architecture": "none", "config": "config.json", "engine": "noop", "platforms": ["cpu"]}},
}
WORKLOADS = {
    "schema_version": 1,
    "workloads": {"brief": {"description": "a few tokens", "prompt_tokens": 8, "generation_tokens": 4}},
    "suites": {"quick": ["brief"]},
}
OWN_TEST = """
import hybrid_ops
from hybrid_ops.suite.test_generation import test_generation

__all__ = ["test_generation"]


def test_ordinary():
    raise AssertionError("no performance test")
"""
LOADED = """
import json, sys
from pathlib import Path

def pytest_sessionfinish():
    files = [str(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
    Path("loaded.json").write_text(json.dumps([file for file in files if "/hybrid_ops/" in file]))
"""
"""A plugin that writes down which of the package's files a run has imported, each as often as it was."""
OPTIONS = ("--perf", "--perf-device=cpu", "--perf-foreign-cpu=100%", "--perf-launches=1",
           "--perf-models=zoo.yaml", "--perf-workloads=workloads.yaml")  # fmt: skip
CELL = "theirs/brief-output"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which this checkout's wheel has been installed."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(ROOT / "hybrid_ops", source / "hybrid_ops", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
    subprocess.run(wheel, check=True, timeout=120)
    shutil.rmtree(source)
    [built] = folder.glob("hybrid_ops-*.whl")
    install = [*pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", str(folder / "site"), str(built)]
    subprocess.run(install, check=True, timeout=120)
    return folder / "site"


class Repository:
    """Someone else's repository, without a conftest.py, whose Python finds the installed package first."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder = folder
        self.site = site
        (folder / "config.json").write_text('{"vocab_size": 100}')
        (folder / "written.py").write_text(LOADED)
        (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
        for name, document in (("zoo.yaml", ZOO), ("workloads.yaml", WORKLOADS)):
            with (folder / name).open("w") as file:
                round_trip_yaml().dump(document, file)

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": f"{self.site}{os.pathsep}{self.folder}", "TMPDIR": str(self.folder)}
        environment.pop("PYTEST_ADDOPTS", None)
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def pytest(self, *words: str, code: int = 0) -> str:
        done = self.python("-m", "pytest", "-p", "written", "-p", "no:cacheprovider", *words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def results(self) -> dict[str, Any]:
        return json.loads(max((self.folder / "perf_results").glob("*/results.json")).read_text())

    def loaded(self) -> Counter[str]:
        """How often the latest run has imported each file of the package, relative to where it is installed."""
        files = [Path(file).resolve() for file in json.loads((self.folder / "loaded.json").read_text())]
        assert all(file.is_relative_to(self.site) for file in files), "another installation of the package was used"
        return Counter(str(file.relative_to(self.site)) for file in files)


@pytest.fixture
def repository(installed: Path, tmp_path: Path) -> Repository:
    return Repository(tmp_path, installed)


def test_the_options_are_there_by_the_entry_point(repository: Repository) -> None:
    found = repository.python("-c", "import hybrid_ops; print(hybrid_ops.__file__)").stdout.strip()
    assert Path(found).is_relative_to(repository.site)
    text = repository.pytest("--help")
    assert "performance regression (hybrid-ops):" in text
    assert "--update-baselines" in text


def test_the_suite_runs_by_its_name_with_that_repositorys_baselines(repository: Repository) -> None:
    arguments = (*OPTIONS, "--pyargs", "hybrid_ops.suite", "-k", CELL)
    repository.pytest(*arguments, "--update-baselines")
    recorded = {path.parent.name for path in repository.folder.glob("perf_baselines/*/theirs.yaml")}
    assert "any" in recorded and len(recorded) == 2
    assert all(cell["recorded"] for cell in repository.results()["cells"])

    text = repository.pytest(*arguments)
    cells = repository.results()["cells"]
    assert {cell["cell"]: cell["verdict"] for cell in cells} == {
        f"{CELL}_throughput": "pass", f"{CELL}_tokens": "pass", f"{CELL}_hash": "pass"
    }  # fmt: skip
    assert "3 passed" in text
    loaded = repository.loaded()
    assert loaded["hybrid_ops/suite/test_generation.py"] == 1
    assert {count for file, count in loaded.items() if file.startswith("hybrid_ops/suite/")} == {1}


def test_a_test_file_of_their_own_has_the_testcases(repository: Repository) -> None:
    (repository.folder / "test_speed.py").write_text(OWN_TEST)
    repository.pytest(*OPTIONS, "-k", CELL)
    cells = repository.results()["cells"]
    assert {cell["verdict"] for cell in cells} == {"missing-baseline"}
    loaded = repository.loaded()
    assert {file for file in loaded if file.startswith("hybrid_ops/suite/")} == {
        "hybrid_ops/suite/__init__.py", "hybrid_ops/suite/test_generation.py"
    }  # fmt: skip


def test_the_published_figures_are_installed(repository: Repository) -> None:
    done = repository.python("-m", "hybrid_ops.cli", "published", "--list")
    assert done.returncode == 0, done.stderr
    names = {path.stem for path in (ROOT / "perf_baselines" / "published").glob("*.yaml")}
    assert {line.split()[1] for line in done.stdout.splitlines()[2:]} == names
