"""The jobs of the workflows that tell somebody, run here against a server of this machine that plays GitHub."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.rehearsal import Rehearsal
from tests.report.messages.forge_server import TOKEN, Forge, running_forge

DYING = """
schema_version: 1
models:
  steady:
    architecture: none
    config: config.json
    engine: noop
    platforms: [cpu]
    arguments: {fail: {on: generate, how: die}}
"""
"""A zoo whose engine dies, so that there is something to tell."""
BRANCH = "branch;$(touch${IFS}injected)"
"""A name that git allows, and a shell must not run."""
PAGE = "https://forge.example/own/repo/actions/runs/40"


@pytest.fixture(scope="module")
def forge() -> Forge:
    with running_forge() as running:
        yield running


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory, forge: Forge) -> Rehearsal:
    folder = tmp_path_factory.mktemp("messages")
    given = {
        "vars.HYBRID_PERF_PYTHON || 'python3'": sys.executable,
        "vars.HYBRID_PERF_STORE || '/var/lib/hybrid-ops/history.sqlite'": str(folder / "history.sqlite"),
        "secrets.HYBRID_PERF_WEBHOOK": "",  # as GitHub has it where nobody has set the secret
        "github.token": TOKEN,
        "github.event.workflow_run.id": "40",
        "github.event.workflow_run.html_url": PAGE,
        "github.event.workflow_run.head_repository.owner.login": "fork",
        "github.event.workflow_run.head_branch": BRANCH,
    }
    made = Rehearsal(folder, **given)
    (folder / "zoo.yaml").write_text(DYING)
    made.environment.update(GITHUB_API_URL=forge.url, CUDA_VISIBLE_DEVICES="")
    return made


def test_a_pull_request_is_told_what_was_measured(rehearsal: Rehearsal, forge: Forge) -> None:
    measured = rehearsal.checkout()
    commit = rehearsal.git(measured, "rev-parse", "HEAD")
    rehearsal.given["github.event.pull_request.base.sha"] = commit
    rehearsal.given["github.event.workflow_run.head_sha"] = commit
    assert rehearsal.job("pull-request", "measure", measured).statuses["Measure"] == 1

    job = rehearsal.job("comment", "comment", rehearsal.checkout())
    assert job.statuses == {"Comment": 0}, job.printed
    [comment] = forge.comments
    assert "steady/brief" in comment["body"]
    assert PAGE in comment["body"]
    assert forge.writes == [("POST", "/repos/own/repo/issues/7/comments")]
    [asked] = rehearsal.gh_log.read_text().splitlines()
    assert asked.startswith(f"api repos/own/repo/pulls --method GET -f state=open -f head=fork:{BRANCH} --jq ")
    assert not (job.clone / "injected").exists()


def test_a_pull_request_without_results_is_told_nothing(rehearsal: Rehearsal, forge: Forge) -> None:
    writes = list(forge.writes)
    (rehearsal.artifacts / "pull-request").rename(rehearsal.artifacts / "put-away")
    (rehearsal.artifacts / "pull-request").mkdir()
    job = rehearsal.job("comment", "comment", rehearsal.checkout())
    assert job.statuses == {"Comment": 0}
    assert "nothing was measured" in job.printed
    assert forge.writes == writes


def test_a_night_that_could_not_measure_is_red_and_told(rehearsal: Rehearsal, forge: Forge) -> None:
    job = rehearsal.job("nightly", "night", rehearsal.checkout())
    assert job.statuses == {"Measure": 2, "Tell": 0}, job.printed
    assert job.is_red
    assert len(forge.issues) == 1
    assert Path(rehearsal.given["vars.HYBRID_PERF_STORE || '/var/lib/hybrid-ops/history.sqlite'"]).is_file()
