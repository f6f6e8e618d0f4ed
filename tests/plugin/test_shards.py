"""Shards of a run, made by real pytest runs and merged, against the same run made at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hybrid_ops.cli import main
from hybrid_ops.regression.history.store import History
from tests.plugin.suite import Suite

MODELS: dict[str, dict[str, Any]] = {
    "steady": {},
    "follower": {"reference": "steady", "arguments": {"step_ms": 3.0}},
    "broken": {"arguments": {"fail": {"on": "generate", "how": "raise", "message": "no kernel"}}},
    "third": {"arguments": {"step_ms": 4.0}},
    "fourth": {"arguments": {"step_ms": 5.0}},
}
MAY_DIFFER = {"log"}
"""Of a cell."""


@pytest.fixture
def models(suite: Suite) -> Suite:
    for name, entry in MODELS.items():
        suite.add_model(name, **entry)
    return suite


def folder(suite: Suite, name: str) -> Path:
    return suite.root / "perf_results" / name


def results(suite: Suite, name: str) -> dict[str, Any]:
    return json.loads((folder(suite, name) / "results.json").read_text())


def shards(suite: Suite, count: int, *arguments: str) -> list[pytest.RunResult]:
    """The runs of all shards, in folders shard-1, shard-2 and so on."""
    return [
        suite.run(f"--perf-shard={number}/{count}", f"--perf-run-id=shard-{number}", *arguments)
        for number in range(1, count + 1)
    ]


def merge(count: int, *words: str, output: str = "merged") -> int:
    """What `hybrid-perf merge` ends with, in the suite's folder."""
    names = [f"perf_results/shard-{number}" for number in range(count, 0, -1)]  # whatever their order is
    return main(["merge", *names, "--output", f"perf_results/{output}", *words])


def cells(suite: Suite, name: str) -> dict[str, dict[str, Any]]:
    return {
        cell["cell"]: {field: value for field, value in cell.items() if field not in MAY_DIFFER}
        for cell in results(suite, name)["cells"]
    }


def junit(suite: Suite, name: str) -> list[tuple[str | None, str | None, list[str]]]:
    """Every testcase of a run's own JUnit, with its outcome."""
    root = ElementTree.parse(folder(suite, name) / "junit.xml").getroot()
    return [
        (case.get("classname"), case.get("name"), [one.tag for one in case if one.tag != "system-out"])
        for case in root.iter("testcase")
    ]


def engines(suite: Suite, name: str) -> set[str]:
    return {launch["engine"] for launch in results(suite, name)["launches"]}


def test_merged_shards_are_the_run_that_is_made_at_once(models: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    models.run("--update-baselines")
    models.edit_baseline("steady", "steady/brief", "output_throughput", lambda value: value * 1.5)
    models.edit_baseline("third", "third/brief", "output_tokens", lambda value: value + 1)
    assert models.run("--perf-run-id=whole").ret == 1
    made = shards(models, 3)
    made[0].stdout.fnmatch_lines(["*performance tests are of other shards*", "perf: shard 1/3: * of 5 engines (*)"])
    parts = [engines(models, f"shard-{number}") for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(MODELS), "every engine on one shard"
    assert any({"steady", "follower"} <= part for part in parts), "a ratio's two engines are on one"
    capsys.readouterr()

    assert merge(3, "--store", "history.sqlite") == 1
    printed = capsys.readouterr().out.splitlines()
    assert "--- performance ---" in printed
    regressions = "1 cell slower (steady/brief), 1 cell changed (third/brief)"
    assert printed[-1].startswith(f"merge: 1, a regression: {regressions}; ")
    assert "could not be measured: 20 cells failed-to-run (broken/brief)" in printed[-1]
    assert printed[-1].endswith("; perf_results/merged/summary.md")

    whole, merged = cells(models, "whole"), cells(models, "merged")
    assert list(merged) == list(whole), "in the same order"
    assert merged == whole
    assert junit(models, "merged") == junit(models, "whole")
    assert {path.name for path in folder(models, "whole").iterdir() if path.is_file()} - {
        path.name for path in folder(models, "merged").iterdir()
    } <= {"progress.log"}
    document = results(models, "merged")
    launches = [(one["engine"], one["index"]) for one in document["launches"]]
    assert launches == [(one["engine"], one["index"]) for one in results(models, "whole")["launches"]]
    for launch in document["launches"]:
        place = folder(models, "merged") / "launches" / launch["engine"] / str(launch["index"])
        assert launch["log"] == str(place / "engine.log") and (place / "engine.log").is_file()
        assert (place / "record.json").is_file()
    assert "--perf-shard" not in document["command"] and "shard-" not in document["command"]
    alone = [results(models, f"shard-{number}") for number in (1, 2, 3)]
    assert document["seconds"] == pytest.approx(sum(one["seconds"] for one in alone))
    assert [one["engine"] for one in document["cost"]["engines"]]
    with History(models.root / "history.sqlite") as history:
        assert {point.run for series in history.series() for point in history.points(series)} == {"merged"}


def test_an_update_by_shards_writes_the_files_of_one_at_once(models: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    models.run("--update-baselines", "--perf-baselines=at-once", "--perf-run-id=all", "--perf-results=elsewhere")
    for number in (1, 2):
        options = [f"--perf-shard={number}/2", f"--perf-run-id=shard-{number}", f"--perf-baselines=checkout-{number}"]
        models.run("--update-baselines", *options)
    capsys.readouterr()
    assert merge(2) == 3
    assert capsys.readouterr().err == (
        "hybrid-perf: error: the shards were made with --update-baselines: add it, and it changes perf_baselines\n"
    )
    assert merge(2, "--add-to-baselines", "--update-baselines") == 3
    assert "--add-to-baselines: the shards were made without it" in capsys.readouterr().err
    assert merge(2, "--update-baselines", "--baselines", "joined", output="all") == 2
    assert "could not be measured: 20 cells failed-to-run (broken/brief)" in capsys.readouterr().out.splitlines()[-1]

    def files(name: str) -> dict[str, str]:
        root = models.root / name
        return {str(path.relative_to(root)): path.read_text() for path in sorted(root.glob("*/*.yaml"))}

    assert len(files("at-once")) > 4
    assert files("joined") == files("at-once")
    assert files("checkout-1").keys() | files("checkout-2").keys() == files("at-once").keys()
    [recorded] = (models.root / "joined").glob("*/launch_seconds.json")
    times = json.loads(recorded.read_text())
    assert sorted(times["engines"]) == sorted(MODELS.keys() - {"broken"})

    times["engines"]["third"]["loading"] = 900.0
    recorded.write_text(json.dumps(times))
    for number in (1, 2):
        models.run(f"--perf-shard={number}/2", f"--perf-run-id=timed-{number}", "--perf-baselines=joined")
    assert [{"third"}] == [part for number in (1, 2) if "third" in (part := engines(models, f"timed-{number}"))]


@pytest.mark.parametrize("processes", [(), ("-n2",)], ids=["alone", "two processes"])
def test_a_shard_without_an_engine_is_fine(
    models: Suite, capsys: pytest.CaptureFixture[str], processes: tuple[str, ...]
) -> None:
    made = shards(models, 2, "-k", "third/", "--perf-launches=1", *processes)
    assert [run.ret for run in made] == [0, 0]
    if not processes:
        made[1].stdout.fnmatch_lines(["perf: shard 2/2: 0 of 1 engines (none)"])
    capsys.readouterr()
    assert merge(2) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "merge: 0, fine: 20 cells; perf_results/merged/summary.md"
    assert models.run("--perf-shard=1/2", "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_arms_are_merged_too(models: Suite) -> None:
    shards(models, 2, "--perf-ab", "--perf-inject=30%", "-k", "steady/ or third/")
    assert merge(2) == 1
    document = results(models, "merged")
    slower = {cell["case"] for cell in document["cells"] if cell["verdict"] == "slower"}
    assert slower == {"steady/brief", "third/brief"}
    logs = [arm["log"] for pair in document["launches"] for arm in pair["arms"]]
    assert len(logs) >= 4 and all(Path(log).is_file() for log in logs)


def test_a_plugin_is_imported_first(models: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    (models.root / "own_engines.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    assert main(["merge", "nowhere", "-p", "own_engines"]) == 3
    assert (models.root / "imported").exists()


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which `hybrid-perf merge` refuses these shards."""
    capsys.readouterr()
    assert main(["merge", *words, "--output", "perf_results/refused"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert not Path("perf_results/refused").exists()
    return line.removeprefix("hybrid-perf: error: ")


def test_shards_that_are_not_of_one_run_are_refused(models: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--perf-launches=1", "-k", "third/ or fourth/"]
    shards(models, 2, *chosen)
    first, second = "perf_results/shard-1", "perf_results/shard-2"
    assert models.run("--perf-shard=3/2").errlines[0] == (
        "ERROR: --perf-shard: the first number is one from 1 to the second, as in 2/3, not '3/2'"
    )

    def other(*arguments: str) -> str:
        """A second shard that was made otherwise."""
        name = f"other-{len(list(folder(models, '').iterdir()))}"
        models.run("--perf-shard=2/2", f"--perf-run-id={name}", *chosen, *arguments)
        return refusal(capsys, first, f"perf_results/{name}")

    def edited(change: Any, file: str = "results.json") -> str:
        """The second shard with a change in one of its files."""
        path = folder(models, "shard-2") / file
        text = path.read_text()
        document = json.loads(text)
        change(document)
        path.write_text(json.dumps(document))
        try:
            return refusal(capsys, first, second)
        finally:
            path.write_text(text)

    assert refusal(capsys, first, second, "-p", "nowhere") == (
        "--plugin nowhere: cannot be imported (No module named 'nowhere')"
    )
    assert refusal(capsys, first) == "shard 2/2 is missing: name the folders of all 2 shards"
    assert refusal(capsys, first, second, first) == (f"{first}: is shard 1/2, as {first} is: name each shard once")
    alike = f"in {first}; the shards of one run are alike in this"
    assert other("--perf-suite=full").endswith(f": option suite: full, and quick {alike}")
    assert other("--perf-set=num_prompts=2").endswith(f": option settings: num_prompts=2, and none {alike}")
    assert other("--perf-budget=5m").endswith(f": option budget_seconds: 300.0, and 200.0 {alike}")
    assert "divides the run otherwise than perf_results/shard-1: " in other("-k", "third/")
    models.run("--perf-shard=2/3", "--perf-run-id=of-three", *chosen)
    assert refusal(capsys, first, "perf_results/of-three") == (
        f"perf_results/of-three: number of shards: 3, and 2 {alike}"
    )
    models.run("--perf-run-id=plain", *chosen)
    assert refusal(capsys, first, "perf_results/plain") == (
        "perf_results/plain/shard.json: cannot be read (No such file or directory); name the folder of a run that was "
        "made with --perf-shard"
    )
    device = edited(lambda document: document["device"].update({"class": "cpu-other-2c"}))
    assert device.startswith(f"{second}: device class: cpu-other-2c, and cpu-") and device.endswith(alike)
    version = edited(lambda document: document["versions"].update({"noop": "2"}))
    assert version == f"{second}: version of noop: 2, and 1 {alike}"
    moved = edited(lambda document: document["cells"][0].update({"definition": "another"}))
    assert moved.endswith("merge in the checkout that was measured, with its baselines as they were")
    schema = edited(lambda document: document.update({"schema": 2}), "shard.json")
    assert schema.startswith(f"{second}/shard.json: schema: ")
    (folder(models, "shard-2") / "rounds" / "1.json").rename(models.root / "kept.json")
    assert refusal(capsys, first, second) == (
        f"{second}/rounds/1.json: cannot be read (No such file or directory); a shard needs its whole folder"
    )
    (models.root / "kept.json").rename(folder(models, "shard-2") / "rounds" / "1.json")
    (models.root / "perf_results" / "refused").mkdir()
    capsys.readouterr()
    assert main(["merge", first, second, "-o", "perf_results/refused"]) == 3
    assert capsys.readouterr().err.endswith("refused: a run has this folder already; choose another --output\n")
