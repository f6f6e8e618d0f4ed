"""What the workflows do, done here: their own scripts, on the no-op engine, with a stub in place of `gh`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.yaml_files import load_yaml, round_trip_yaml
from tests.rehearsal import Job, Rehearsal

REASON = "a 'new' kernel; $(touch injected) `touch injected`"
"""What a person may type, and a shell must not run."""
GIVEN = {
    "vars.HYBRID_PERF_PYTHON || 'python3'": sys.executable,
    "inputs.device == 'cpu'": "true",
    "inputs.device": "cpu",
    "inputs.suite": "quick",
    "inputs.cases": "steady/brief",
    "inputs.reason": REASON,
    "github.token": "token",
    "github.ref_name": "main",
    "github.run_id": "41",
    "github.run_attempt": "1",
}
ACCEPTED = "accept-baselines/41-1"


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    return Rehearsal(tmp_path_factory.mktemp("rehearsal"), **GIVEN)


@pytest.fixture(scope="module")
def accepted(rehearsal: Rehearsal) -> tuple[Job, Job]:
    """The two jobs of accept-baselines, of which the second opens the pull request."""
    measured = rehearsal.job("accept-baselines", "measure", rehearsal.checkout())
    return measured, rehearsal.job("accept-baselines", "open", rehearsal.checkout())


def results_of(folder: Path) -> list[dict[str, Any]]:
    """Those of each run that was uploaded, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/results.json"))]


def test_accepted_baselines_come_as_a_pull_request(rehearsal: Rehearsal, accepted: tuple[Job, Job]) -> None:
    measured, opened = accepted
    assert (measured.is_red, measured.outputs) == (False, {"changed": "true"}), measured.printed
    assert not opened.is_red, opened.printed
    changed = rehearsal.git(opened.clone, "diff", "--name-only", "origin/main", f"origin/{ACCEPTED}").splitlines()
    assert "perf_baselines/any/steady.yaml" in changed
    assert all(name.startswith("perf_baselines/") for name in changed)
    *_, asked = rehearsal.gh_log.read_text().splitlines()
    title = f"--title Accept baselines: {REASON}"
    assert asked == f"pr create --base main --head {ACCEPTED} {title} --body-file accepted/body.md"
    body = (opened.clone / "accepted" / "body.md").read_text()
    assert body.startswith(f"{REASON}\n\nRecorded by `ci/accept-baselines cpu`.")
    assert "recorded for the first time" in body
    assert [job.clone for job in accepted if (job.clone / "injected").exists()] == []


def test_a_pull_request_that_changes_an_exact_metric_is_red_and_its_results_are_kept(
    rehearsal: Rehearsal, accepted: tuple[Job, Job]
) -> None:
    clone = rehearsal.checkout(ACCEPTED)
    rehearsal.given["github.event.pull_request.base.sha"] = rehearsal.git(clone, "rev-parse", "HEAD")
    path = clone / "perf_baselines" / "any" / "steady.yaml"
    document = load_yaml(path)
    document["cases"]["steady/brief"]["metrics"]["output_tokens"]["value"] += 1
    with path.open("w") as file:
        round_trip_yaml().dump(document, file)
    rehearsal.commit(clone, "A baseline that does not hold")

    job = rehearsal.job("pull-request", "measure", clone)
    assert job.statuses == {"Measure": 1, "Show the summaries": 0}, job.printed
    assert "so there is one engine only" in job.printed
    [results] = results_of(rehearsal.artifacts / "pull-request")
    verdicts = {cell["metric"]: cell["verdict"] for cell in results["cells"]}
    assert verdicts["output_tokens"] == "changed"
    assert (clone / ".git" / "summary.md").read_text().startswith("# Performance: ")


def test_a_pull_request_that_changes_the_engine_has_both_side_by_side(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = rehearsal.checkout()
    base = rehearsal.git(clone, "rev-parse", "HEAD")
    rehearsal.given["github.event.pull_request.base.sha"] = base
    with (clone / "ci" / "lock-vllm-cpu.txt").open("a") as file:
        file.write("# another version\n")
    rehearsal.commit(clone, "Another engine")

    monkeypatch.setitem(rehearsal.environment, "BASE_PYTHON", sys.executable)
    monkeypatch.setitem(rehearsal.environment, "AB_CASES", "steady/brief")
    job = rehearsal.job("pull-request", "measure", clone)
    assert job.statuses == {"Measure": 0, "Show the summaries": 0}, job.printed
    alone, compared = results_of(rehearsal.artifacts / "pull-request")
    assert alone["arms"] is None
    assert [arm["interpreter"] for arm in compared["arms"]] == [sys.executable, str(clone / ".venv" / "bin" / "python")]
    assert base.startswith(compared["versions"]["source"].partition("+")[0].removesuffix("-dirty"))
    assert rehearsal.git(clone, "worktree", "list").count("\n") == 0, "the tree of the base is gone"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ci/pull-request"], "usage: ci/pull-request BASE [pytest arguments]"),
        (["ci/pull-request", "nowhere"], "ci/pull-request: no common history with nowhere; fetch all of it first"),
        (["ci/accept-baselines", "cpu"], "usage: ci/accept-baselines cpu|cuda FOLDER [pytest arguments]"),
        (["ci/accept-baselines", "tpu", "new"], "ci/accept-baselines: the device is cpu or cuda, not 'tpu'"),
    ],
)
def test_a_script_that_cannot_begin_says_why(rehearsal: Rehearsal, words: list[str], message: str) -> None:
    done = subprocess.run(words, cwd=rehearsal.folder / "source", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == message
