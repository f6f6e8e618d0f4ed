"""docs/extending.md holds: an engine, a procedure with two metrics and a report in one file of their own, in a folder
that has nothing else of this project, from YAML to JUnit, baselines, A/B, xdist and history.
"""

from __future__ import annotations

import csv
import re
import shutil
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hybrid_ops.engines.worker import Worker
from hybrid_ops.yaml_files import round_trip_yaml
from tests.plugin.suite import Suite
from tests.test_commands import printed

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "extending.md").read_text(encoding="utf-8")
EXAMPLE = DOCS / "examples" / "sorting.py"
FILES = dict(re.findall(r"^`(\w+\.\w+)`[^\n]*:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
"""The files that the page tells its reader to put beside the example."""

NUMBERS = 300
"""Fewer than the page's, for the sake of time."""


class Folder(Suite):
    """A folder with what the page tells its reader to put there, and nothing else."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        super().__init__(pytester)
        for path in self.root.iterdir():
            if path.is_file():
                path.unlink()
        for name, text in FILES.items():
            (self.root / name).write_text(text)
        shutil.copy(EXAMPLE, self.root)

    @property
    def arguments(self) -> list[str]:
        return [
            *("--perf", "--pyargs", "hybrid_ops.suite", "--perf-models=sorters.yaml", "--perf-workloads=suites.yaml"),
            *("--perf-device=cpu", "--perf-foreign-cpu=100%"),  # whatever runs beside the tests does not matter
            f"--perf-set=numbers={NUMBERS}",
        ]

    def run_folder(self) -> Path:
        return max((self.root / "perf_results").iterdir())

    def rewrite(self, name: str, **changes: Any) -> None:
        """Change keys at the top of a YAML file."""
        path = self.root / name
        document = round_trip_yaml().load(path.read_text())
        for key, value in changes.items():
            document[key] = {**document.get(key, {}), **value} if isinstance(value, Mapping) else value
        with path.open("w") as file:
            round_trip_yaml().dump(document, file)


@pytest.fixture
def folder(pytester: pytest.Pytester) -> Folder:
    return Folder(pytester)


CELLS = {
    f"sorter{configuration}/thousand-{metric}"
    for configuration in ("", "@insertion")
    for metric in ("sort_ms", "comparisons")
}


def verdicts_by_metric(folder: Folder) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for cell, verdict in folder.verdicts().items():
        found.setdefault(cell.rpartition("-")[2], set()).add(verdict)
    return found


def test_the_page_shows_the_example_as_it_is() -> None:
    assert set(FILES) == {"conftest.py", "sorters.yaml", "config.json", "suites.yaml"}
    source = EXAMPLE.read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if block != FILES["conftest.py"]]
    assert len(blocks) >= 7
    assert [block for block in blocks if block not in source] == []


def test_the_files_that_the_page_names_exist() -> None:
    links = re.findall(r"\]\(([a-z_/]+\.[a-z]+)\)", PAGE)
    assert [link for link in links if not (DOCS / link).is_file()] == []
    named = re.findall(r"`((?:hybrid_ops|docs)/[\w/]+(?:\.\w+)?)/?`", PAGE)
    assert [path for path in named if not (DOCS.parent / path).exists()] == []


@pytest.mark.parametrize("algorithm", ["merge", "insertion"])
def test_the_figures_that_the_page_shows_are_the_examples(algorithm: str, tmp_path: Path) -> None:
    shown = re.search(rf"^ +sorter\S*/thousand +{algorithm} +1000 +(\S+)$", PAGE, re.MULTILINE)
    assert shown is not None
    with Worker(EXAMPLE, tmp_path) as worker:
        worker.request("load", 30, model="", arguments={"algorithm": algorithm})
        sample = worker.request("sort", 30, numbers=1000, seed=42)
    assert shown[1] == f"{sample['comparisons'] / 1000:.2f}"


def test_from_yaml_to_baselines_and_verdicts(folder: Folder) -> None:
    first = folder.run("--perf-launches=1")
    assert first.ret == 0
    assert folder.verdicts() == dict.fromkeys(CELLS, "missing-baseline")
    first.stdout.fnmatch_lines(
        ["*- sorting -*", "case*algorithm*", f"sorter/thousand *merge*{NUMBERS}*", "*sorting.csv"]
    )

    run = folder.run_folder()
    [headings, *rows] = csv.reader((run / "sorting.csv").read_text().splitlines())
    assert headings == ["case", "algorithm", "numbers", "comparisons per number"]
    results = folder.results()
    comparisons = {cell["case"]: cell["value"] for cell in results["cells"] if cell["metric"] == "comparisons"}
    assert rows == [
        [case, algorithm, str(NUMBERS), f"{comparisons[case] / NUMBERS:.2f}"]
        for case, algorithm in (("sorter/thousand", "merge"), ("sorter@insertion/thousand", "insertion"))
    ]
    assert "## sorting\n\n| case" in (run / "summary.md").read_text()
    assert results["sorts"]["sorter/thousand"] == {"numbers": NUMBERS, "algorithm": "merge"}
    assert results["versions"]["sorting"] == "1"
    suites = ElementTree.parse(run / "junit.xml").getroot().iter("testsuite")
    assert {(suite.get("name"), case.get("name")) for suite in suites for case in suite.iter("testcase")} == {
        tuple(cell.rsplit("-", 1)) for cell in CELLS
    }
    ours = ElementTree.parse(folder.root / "junit.xml").getroot()
    names = {case.get("name"): case for case in ours.iter("testcase")}
    assert {f"test_cell[{cell}]" for cell in CELLS} <= names.keys()
    properties = {p.get("name"): p.get("value") for p in names["test_cell[sorter/thousand-sort_ms]"].iter("property")}
    assert (properties["unit"], properties["kind"], properties["verdict"]) == ("ms", "absolute", "missing-baseline")

    assert folder.run("--update-baselines").ret == 0
    exact = folder.baseline("sorter", "sorter/thousand", "comparisons")
    assert exact == {"value": comparisons["sorter/thousand"]}
    assert (folder.root / "perf_baselines" / "any" / "sorter.yaml").is_file()
    assert len(folder.baseline("sorter", "sorter@insertion/thousand", "sort_ms")["launches"]) >= 3

    folder.edit_baseline("sorter", "sorter/thousand", "sort_ms", lambda value: value / 30)
    folder.edit_baseline("sorter", "sorter@insertion/thousand", "comparisons", lambda value: value + 1)
    compared = folder.run("-n", "2")
    assert compared.ret == 1
    verdicts = folder.verdicts()
    assert verdicts["sorter/thousand-sort_ms"] == "slower"
    assert verdicts["sorter@insertion/thousand-comparisons"] == "changed"
    assert verdicts["sorter/thousand-comparisons"] == "pass"
    compared.stdout.fnmatch_lines(["sorter/thousand * sort_ms * ms * ms *slower"])

    added = printed(folder.root, "history", "add", *sorted((folder.root / "perf_results").glob("*/results.json")))
    assert [line.rpartition(": ")[2] for line in added.splitlines()] == ["4 cells added"] * 3
    shown = printed(folder.root, "history", "show", "--case", "sorter/*")
    heads = [line.partition(" on ")[0] for line in shown.splitlines() if " on " in line]
    assert heads == ["sorter/thousand comparisons (comparisons)", "sorter/thousand sort_ms (ms)"]


def test_arms_are_compared_pair_by_pair_under_an_interpreter_that_has_nothing_of_ours(folder: Folder) -> None:
    venv.create(folder.root / "bare", with_pip=False)
    bare = folder.root / "bare" / "bin" / "python"
    arm = ("--perf-arm-b=arg.algorithm=insertion", f"--perf-arm-b=python={bare}")
    result = folder.run("-k", "sorter/", "--perf-ab", *arm)
    assert result.ret == 1
    assert folder.verdicts() == {"sorter/thousand-sort_ms": "slower", "sorter/thousand-comparisons": "changed"}
    results = folder.results()
    assert results["arms"][1]["interpreter"] == str(bare)
    [pair, *_] = results["launches"]
    assert [launch["arguments"]["algorithm"] for launch in pair["arms"]] == ["merge", "insertion"]
    assert list(pair["log_ratios"]["sorter/thousand"]) == ["sort_ms"]


LIARS = '''
"""Engines that answer what their argument `answer` says, and one that can give one metric alone."""

from typing import Any

from hybrid_ops.engines.protocol import DeviceFacts, LoadFacts, serve

if __name__ == "__main__":
    told: dict[str, Any] = {}

    def load(model, arguments):
        told.update(arguments)
        device = DeviceFacts("cpu", None, None, None, None)
        return LoadFacts(0.0, None, None, device, [], {}, None)

    serve({"load": load, "sort": lambda numbers, seed: told["answer"]})
    raise SystemExit

from pathlib import Path

from hybrid_ops.engines import registry
from sorting import Sorting


class Liar(Sorting):
    name = "liar"
    worker = Path(__file__)


class Brief(Sorting):
    name = "brief"
    metrics = frozenset({"sort_ms"})


registry.register(Liar())
registry.register(Brief())
'''
SAMPLE = {"seconds": 0.1, "comparisons": 9, "is_sorted": True}
ANSWERS: dict[str, tuple[Mapping[str, Any], str]] = {
    "lacking": ({"seconds": 0.1, "is_sorted": True}, "liar: the answer to 'sort' lacks comparisons"),
    "surplus": ({**SAMPLE, "swaps": 5}, "liar: the answer to 'sort' has swaps, which is no field of SortSample"),
    "mistyped": (
        {**SAMPLE, "comparisons": "9"},
        "liar: the answer to 'sort' has comparisons = '9', which is not of the type int",
    ),
    "unsorted": ({**SAMPLE, "is_sorted": False}, "not a measurement: the numbers are not in order"),
}


def test_what_an_engine_says_and_cannot_say(folder: Folder) -> None:
    """A wrong answer names engine and field; what an engine cannot give, or is not asked, is no cell."""
    (folder.root / "liars.py").write_text(LIARS)
    (folder.root / "conftest.py").write_text('pytest_plugins = ["hybrid_ops.plugin", "sorting", "liars"]\n')
    (folder.root / "config.json").write_text('{"vocab_size": 100}')
    entry = {"architecture": "none", "config": "config.json", "platforms": ["cpu"]}
    models = {
        **{
            name: {**entry, "engine": "liar", "arguments": {"algorithm": "merge", "answer": dict(answer)}}
            for name, (answer, _) in ANSWERS.items()
        },
        "brief": {**entry, "engine": "brief", "arguments": {"algorithm": "merge"}},
    }
    folder.rewrite("sorters.yaml", models=models)
    folder.rewrite(
        "suites.yaml",
        sorts={"few": {"description": "some numbers", "numbers": 10}},
        workloads={"tokens": {"description": "some tokens", "prompt_tokens": 4, "generation_tokens": 2}},
        configurations={"other": {"engine": "noop", "models": ["sorter"]}},
        suites={"quick": ["few", "few@other", "sorter/tokens", "tokens@other"]},
    )
    names = (*models, "sorter", "other")
    assert folder.run("--perf-launches=1", "-k", " or ".join(names)).ret == 1
    cells = {cell["cell"]: cell for cell in folder.results()["cells"]}
    for name, (_, message) in ANSWERS.items():
        for metric in ("sort_ms", "comparisons"):
            cell = cells[f"{name}/few-{metric}"]
            assert (cell["verdict"], cell["reason"]) == ("failed-to-run", message)
    cases: dict[str, list[str]] = {}
    for cell in cells.values():
        cases.setdefault(cell["case"], []).append(cell["metric"])
    assert cases["brief/few"] == ["sort_ms"]
    # The sorter generates no tokens, the no-op engine sorts nothing.
    assert {case for case in cases if case.startswith("sorter")} == {"sorter/few", "sorter@other/tokens"}
    assert cells["sorter@other/tokens-output_tokens"]["verdict"] == "missing-baseline"


def test_two_engines_under_one_name_are_one_error(folder: Folder) -> None:
    other = "from hybrid_ops.engines import registry\nfrom sorting import Sorting\n"
    other += "class Mine(Sorting): pass\nregistry.register(Mine())\nregistry.register(Sorting())\n"
    (folder.root / "other.py").write_text(other)
    (folder.root / "conftest.py").write_text('pytest_plugins = ["hybrid_ops.plugin", "sorting", "other"]\n')
    result = folder.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        "ERROR: an engine is named 'sorting' twice: sorting.Sorting and other.Mine; rename one of them"
    ]


def test_an_unknown_engine_is_named_with_its_file_and_field(folder: Folder) -> None:
    (folder.root / "conftest.py").write_text('pytest_plugins = ["hybrid_ops.plugin"]\n')
    folder.rewrite("suites.yaml", sorts={}, suites={"quick": []})
    result = folder.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *sorters.yaml: models.sorter.engine: no engine is named 'sorting'; there are *"]
    )
