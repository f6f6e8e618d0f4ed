"""`hybrid-perf isolation` through the installed program, on no-op engines that disturb each other or do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import cpu, placed_class
from hybrid_ops.engines.devices.leases import LOCKS
from hybrid_ops.errors import InputError
from hybrid_ops.measure.isolation import undisturbed_classes
from hybrid_ops.measure.neighbours import Finding, compare
from hybrid_ops.yaml_files import round_trip_yaml

PROGRAM = Path(sys.executable).with_name("hybrid-perf")
ROOT = Path(__file__).parents[2]
CLASS = placed_class(cpu().device_class, "cpu", 1)
needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


def isolation(folder: Path, *words: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """The command for a no-op engine with these arguments."""
    (folder / "config.json").write_text('{"vocab_size": 100}')
    engine = {"architecture": "none", "config": "config.json", "engine": "noop", "arguments": arguments}
    with (folder / "zoo.yaml").open("w") as file:
        round_trip_yaml().dump({"schema_version": 1, "models": {"quick": engine}}, file)
    command = [str(PROGRAM), "isolation", "quick", "--models", "zoo.yaml", "--device", "cpu", "--workload", "short"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), LOCKS: str(folder / "locks")}
    return subprocess.run(
        [*command, "--rounds", "6", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.long
@needs_two_cores
def test_engines_that_do_not_disturb_each_other(tmp_path: Path) -> None:
    done = isolation(tmp_path)
    assert done.returncode == 0, done.stderr
    path = Path("perf_baselines", CLASS, "isolation.json")
    lines = done.stdout.splitlines()
    assert lines[0] == f"quick/short, alone and beside 1 working neighbour, on {CLASS}"
    assert any(line.split()[1:5] == ["output_throughput", "|", "+0.0%", "|"] for line in lines), done.stdout
    assert lines[-1] == (
        f"Neighbours do not disturb each other by more than 5%: timed cells are measured side by side. Kept in {path}."
    )
    document = json.loads((tmp_path / path).read_text())
    assert (document["undisturbed"], document["neighbours"], document["case"]) == (True, 1, "quick/short")
    assert undisturbed_classes(tmp_path / "perf_baselines") == {CLASS}


@needs_two_cores
def test_engines_that_disturb_each_other(tmp_path: Path) -> None:
    crowded = {"folder": str(tmp_path / "working"), "factor": 1.5}
    done = isolation(tmp_path, real_time=True, step_ms=1.0, crowded=crowded)
    assert done.returncode == 1, done.stderr
    assert "Neighbours disturb each other here: timed cells are measured alone." in done.stdout
    assert "DISTURBED" in done.stdout
    document = json.loads((tmp_path / "perf_baselines" / CLASS / "isolation.json").read_text())
    [throughput] = [one for one in document["metrics"] if one["metric"] == "output_throughput"]
    assert throughput["ratio"] == pytest.approx(1 / 1.5)
    assert undisturbed_classes(tmp_path / "perf_baselines") == frozenset()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "2"], "--rounds: at least 6, to know the error of a median; not 2"),
        (["--tolerance", "0"], "--tolerance: a share above 0, such as 0.05; not 0"),
        (["--workload", "lunch"], "no generation workload is named 'lunch'; there are short, "),
        (["--cores", "4096"], "two engines of 4096 cores each do not fit: this machine has "),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    done = isolation(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"hybrid-perf: error: {message}")


def rounds(*values: float) -> list[dict[str, float]]:
    return [{"time": value} for value in values]


@pytest.mark.parametrize(
    ("beside", "finding"),
    [
        ((1.0, 1.01, 0.99, 1.0, 1.01, 0.99), Finding.UNDISTURBED),
        ((1.2, 1.21, 1.19, 1.2, 1.1, 1.3), Finding.DISTURBED),
        ((0.8, 0.81, 0.79, 0.8, 0.7, 0.9), Finding.DISTURBED),
        ((1.0, 1.2, 1.0, 1.2, 1.0, 1.2), Finding.OPEN),
        ((1.0, 1.0, 1.0, 1.0, 1.0, 1.06), Finding.OPEN),
    ],
)
def test_a_metric_is_judged_by_its_whole_interval(beside: tuple[float, ...], finding: Finding) -> None:
    assert compare("time", rounds(*[1.0] * 6), rounds(*beside), 0.05).finding is finding


def test_a_file_of_another_release_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / CLASS / "isolation.json"
    path.parent.mkdir()
    path.write_text('{"schema": 2, "undisturbed": true}')
    with pytest.raises(InputError, match=r"isolation\.json: schema: this release reads 1, not 2"):
        undisturbed_classes(tmp_path)
