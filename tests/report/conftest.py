from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_ops.yaml_files import round_trip_yaml
from tests.plugin.forked import PARENTS
from tests.plugin.suite import LEAN, TEST_FILE, WORKLOADS


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `results.json` of one real run: two models on the no-op engine, of which one does not load."""
    folder = tmp_path_factory.mktemp("measured")
    entry = {"architecture": "none", "config": "config.json", "engine": "noop", "platforms": ["cpu"]}
    broken = {"fail": {"on": "load", "how": "raise", "message": "no such weights"}}
    models = {"steady": entry, "broken": {**entry, "arguments": broken}}
    with (folder / "zoo.yaml").open("w") as file:
        round_trip_yaml().dump({"schema_version": 1, "models": models}, file)
    (folder / "config.json").write_text('{"vocab_size": 100}')
    (folder / "workloads.yaml").write_text(WORKLOADS)
    (folder / "conftest.py").write_text('pytest_plugins = ["hybrid_ops.plugin"]')
    (folder / "test_suite.py").write_text(TEST_FILE)
    options = ["--perf", "--perf-suite=full", "--perf-launches=1", "--perf-device=cpu", "--perf-foreign-cpu=100%",
               "--perf-models=zoo.yaml", "--perf-workloads=workloads.yaml", "-k", "steady/ or broken/"]  # fmt: skip
    done = PARENTS.run(folder, *LEAN, *options)
    assert done.ret == 1, done.stdout.str()
    [path] = folder.glob("perf_results/*/results.json")
    return path
