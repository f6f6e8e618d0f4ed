"""`hybrid-perf comment` with the results of real runs on the no-op engine, on a server that plays GitHub and GitLab."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import read_results
from hybrid_ops.report.messages.comment import Remembered, marker, remembered
from tests.plugin.suite import Suite
from tests.report.messages.forge_server import TOKEN, Forge

BROKEN = {"fail": {"on": "load", "how": "raise", "message": "out of <memory> `now` --> @everyone"}}
PLACES = {
    "github": ["--github", "own/repo", "--pull-request", "7"],
    "gitlab": ["--gitlab", "own/repo", "--merge-request", "7"],
}


class Folder:
    """What a suite needs of `pytester`, for runs that several tests share."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._monkeypatch = monkeypatch

    def makeconftest(self, source: str) -> None:
        (self.path / "conftest.py").write_text(source)

    def makepyfile(self, test_suite: str) -> None:
        (self.path / "test_suite.py").write_text(test_suite)

    def makefile(self, ending: str, pyproject: str) -> None:
        (self.path / f"pyproject{ending}").write_text(pyproject)

    def runpytest_subprocess(self, *arguments: str) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *arguments], cwd=self.path, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs of two models: `fine`, `slow` (40 % slower), `slower` (120 %) and `broken` (one does not load)."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        suite = Suite(Folder(tmp_path_factory.mktemp("project"), monkeypatch))  # type: ignore[arg-type]
        for name in ("steady", "other"):
            suite.add_model(name)
        suite.run("--update-baselines", "--perf-launches=3")
        suite.run("--perf-run-id=fine", "--perf-launches=3")
        suite.run("--perf-run-id=slow", "--perf-inject=40%", "--perf-launches=3")
        suite.run("--perf-run-id=slower", "--perf-inject=120%", "--perf-launches=3")
        suite.add_model("other", arguments=BROKEN)
        suite.run("--perf-run-id=broken")
        yield suite.root / "perf_results"


class Commenter:
    """Comments on one pull request, and looks at what came of it."""

    def __init__(self, forge: Forge, runs: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.forge = forge
        self.kind = kind
        self._runs = runs
        self._capsys = capsys

    def comment(self, run: str, *words: str, code: int = 0) -> str:
        """Comment with a run; what the program said."""
        place = [*PLACES[self.kind], "--api", self.forge.url]
        assert main(["comment", str(self._runs / run), *place, *words]) == code
        said = self._capsys.readouterr()
        assert said.out == "" and TOKEN not in said.err and "Traceback" not in said.err
        return said.err

    @property
    def body(self) -> str:
        """The comment that is there."""
        [comment] = [one for one in self.forge.comments if one["body"].startswith(marker("default"))]
        return comment["body"]


@pytest.fixture(params=list(PLACES))
def commenter(
    forge: Forge, runs: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Commenter:
    return Commenter(forge, runs, request.param, capsys)


@pytest.fixture
def on_github(forge: Forge, runs: Path, capsys: pytest.CaptureFixture[str]) -> Commenter:
    return Commenter(forge, runs, "github", capsys)


def dry(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main(["comment", *map(str, words), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert (said.out == "") == (said.err == "hybrid-perf comment: nothing to say\n")
    return said.out


def test_one_comment_is_made_changed_and_left_alone(commenter: Commenter) -> None:
    forge = commenter.forge
    forge.comments += [{"id": number, "body": f"remark {number}"} for number in range(1, 231)]
    assert commenter.comment("fine") == "hybrid-perf comment: nothing to say\n"
    assert forge.writes == [], "nothing was ever wrong, so no comment is made"

    commenter.comment("slow")
    assert "**New**" in commenter.body and "cells slower together, 40 % worse (median)" in commenter.body
    reads = [path for method, path in forge.requests if method == "GET"]
    assert len(reads) == 2 * 3, "comments come in pages of 100"

    assert commenter.comment("slow") == "hybrid-perf comment: nothing to say\n"
    assert len(forge.writes) == 1

    commenter.comment("slower")
    assert "**Worse than told before**" in commenter.body and "120 % worse (median), since `slow`" in commenter.body

    commenter.comment("broken")
    assert "**Recovered**" in commenter.body and "**Could not be measured**" in commenter.body

    commenter.comment("fine")
    assert "nothing is worse now" in commenter.body
    writes = len(forge.writes)
    commenter.comment("fine")
    assert len(forge.writes) == writes and len(forge.comments) == 231
    assert set(forge.tokens) == {f"Bearer {TOKEN}"}


def test_the_text_names_causes_figures_and_commands(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = dry(capsys, runs / "slow")
    lines = text.splitlines()
    cells = read_results(runs / "slow").cells
    slower = [cell for cell in cells if cell.verdict == "slower"]
    count = len([cell for cell in slower if cell.case == "steady/brief"])
    total = len([cell for cell in cells if cell.case == "steady/brief"])
    assert count >= 3
    assert lines[0].endswith(f": {len(slower)} cells worse**")
    assert f"- `steady/brief`: {count} of {total} cells slower together, 40 % worse (median)" in lines
    assert f"- `other/brief`: {count} of {total} cells slower together, 40 % worse (median)" in lines
    assert any("in the baseline" in line and "(-28.6 %)" in line for line in lines)
    [again] = [line for line in lines if line.startswith("- measure again: ")]
    [accept] = [line for line in lines if line.startswith("- accept, if it is intended: ")]
    assert "--perf-inject=40%" in again and again.count("-k ") == 1 and "--perf-run-id" not in again
    assert again.endswith(("-k 'other/brief or steady/brief'`", "-k 'steady/brief or other/brief'`"))
    assert "--update-baselines -k " in accept
    assert f"- summary: `{runs / 'slow' / 'summary.md'}`" in lines
    assert dry(capsys, runs / "fine") == ""


def test_an_error_is_one_entry_and_no_markup(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = dry(capsys, runs / "broken")
    [entry] = [line for line in text.splitlines() if "memory" in line]
    assert entry.startswith("- `other`: ") and "`` " in entry and entry.endswith(" ``")
    assert "out of <memory> `now` --> @everyone" in entry


def test_what_the_target_branch_has_is_not_blamed(
    on_github: Commenter, runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    base = ["--base", str(runs / "slow")]
    on_github.comment("slow", *base)
    assert on_github.forge.writes == []
    assert "120 % worse" in dry(capsys, runs / "slower", *base), "worse than the target branch is to blame"

    text = dry(capsys, runs / "broken", "--base", runs / "broken")
    assert text == ""
    text = dry(capsys, runs / "slow", "--base", runs / "fine")
    assert "Already so" not in text and "40 % worse" in text

    # A regression that the target branch turns out to have, too, is taken back, and not called recovered.
    on_github.comment("slow")
    on_github.comment("slow", *base)
    assert "**Already so on the target branch, and not blamed on this change**" in on_github.body
    assert "recovered" not in on_github.body.lower() and "**New**" not in on_github.body

    store = tmp_path / "history.sqlite"
    with History(store, create=True) as history:
        history.add(read_results(runs / "slow"), "quick")
    assert dry(capsys, runs / "slow", "--store", store) == ""
    assert "120 % worse" in dry(capsys, runs / "slower", "--store", store)


def test_what_was_told_is_read_from_the_comment_alone(on_github: Commenter) -> None:
    on_github.comment("broken")
    told = remembered(on_github.body, "default")
    assert {state.seen.engine for state in told.states.values()} == {"other"}
    assert all(state.is_unmeasured and not state.is_worse for state in told.states.values())
    # A person has broken the comment: all is told again.
    on_github.forge.comments[0]["body"] = marker("default") + "broken -->\nhello"
    assert remembered(on_github.body, "default") == Remembered()
    on_github.comment("broken")
    assert remembered(on_github.body, "default").states.keys() == told.states.keys()


def test_comments_of_two_names_stand_beside_each_other(on_github: Commenter) -> None:
    on_github.comment("slow")
    on_github.comment("slow", "--name", "gpu")
    assert [one["body"].split(":")[0] for one in on_github.forge.comments] == [
        "<!-- hybrid-perf comment default",
        "<!-- hybrid-perf comment gpu",
    ]


@pytest.mark.parametrize("kind", list(PLACES))
def test_a_job_names_everything_itself(
    forge: Forge, runs: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}))
    variables = {
        "github": {
            "GITHUB_REPOSITORY": "own/repo",
            "GITHUB_API_URL": forge.url,
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_RUN_ID": "12",
        },
        "gitlab": {
            "CI_PROJECT_ID": "own/repo",
            "CI_API_V4_URL": forge.url,
            "CI_MERGE_REQUEST_IID": "7",
            "CI_JOB_URL": "https://github.example/own/repo/actions/runs/12",
        },
    }[kind]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["comment", str(runs / "slow")]) == 0
    assert "- more: <https://github.example/own/repo/actions/runs/12>" in forge.comments[0]["body"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (401, "401: the token is not accepted"),
        (403, "403: the token may not do this"),
        (404, "404: there is no such thing"),
        (422, "422: the request was refused"),
        (500, "500: it failed there"),
        ("hang", "no answer within 0.2 s"),
        ("drop", "Server disconnected"),
        ("no json", "the answer is not JSON"),
    ],
)
def test_a_forge_that_refuses_is_one_line(commenter: Commenter, fault: int | str, reason: str) -> None:
    commenter.forge.fault = fault
    said = commenter.comment("slow", *(["--timeout", "0.2"] if fault == "hang" else []), code=1)
    assert said.startswith(f"hybrid-perf comment: not told: {commenter.forge.url}: GET /")
    assert reason in said and said.count("\n") == 1
    commenter.forge.fault = None
    commenter.comment("slow")
    assert "40 % worse" in commenter.body


def test_nobody_listens(on_github: Commenter) -> None:
    assert "Connection refused" in on_github.comment("slow", "--api", "http://127.0.0.1:9", code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no forge is named: give --github OWNER/REPO or --gitlab PROJECT, or print with --dry-run"),
        (["--github", "a/b", "--gitlab", "7"], "--github and --gitlab: give one of them"),
        (["--github", "a/b"], "--pull-request N is missing, and GITHUB_EVENT_PATH names no pull request"),
        (["--gitlab", "7"], "--merge-request N is missing, and CI_MERGE_REQUEST_IID is not set"),
        (["--name", "a b"], "--name: letters, digits, '.', '_' and '-', not 'a b'"),
        (["--base", "nowhere"], "nowhere: cannot be read (No such file or directory)"),
        (["--store", "nowhere"], "nowhere: no history is there: add a results.json first"),
    ],
)
def test_bad_input_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["comment", str(runs / "slow"), *words]) == 2
    assert capsys.readouterr().err == f"hybrid-perf: error: {message}\n"


def test_runs_of_two_device_classes_are_two_comments(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = json.loads((runs / "slow" / "results.json").read_text())
    other["device"]["class"] = "another"
    (tmp_path / "results.json").write_text(json.dumps(other))
    assert main(["comment", str(runs / "slow"), str(tmp_path), "--dry-run"]) == 2
    assert "give each a comment of its own with --name" in capsys.readouterr().err


def test_thousands_of_bad_cells_fit_into_a_comment_and_more_are_refused(
    on_github: Commenter, runs: Path, tmp_path: Path
) -> None:
    document = json.loads((runs / "slow" / "results.json").read_text())
    slower = next(cell for cell in document["cells"] if cell["verdict"] == "slower")
    folder = runs / "many"
    for count, code in ((3000, 0), (20_000, 2)):
        document["cells"] = [
            {**slower, "cell": f"c{n}", "case": f"model-{n % 40}/load-{n // 40}", "engine": f"model-{n % 40}",
             "value": slower["value"] * (1 - n / 1e6)}
            for n in range(count)
        ]  # fmt: skip
        folder.mkdir(exist_ok=True)
        (folder / "results.json").write_text(json.dumps(document))
        said = on_github.comment("many", *(["--name", "all"] if code else []), code=code)
        assert (said == "") == (code == 0)
    assert len(on_github.body) <= 65536
    assert "and 20 more" in on_github.body
    assert len(remembered(on_github.body, "default").states) == 3000
    shutil.rmtree(folder)
