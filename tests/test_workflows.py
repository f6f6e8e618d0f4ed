"""The workflows are checked by their own linters, and by rules of this house that no linter has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_jsonschema
import pytest
from click.testing import CliRunner

from hybrid_ops.cli import build_parser
from tests.workflows import (
    ACTIONS,
    BUILDKITE,
    GITLAB,
    ROOT,
    SHARDS,
    WORKFLOWS,
    Script,
    buildkite_scripts,
    expressions,
    gitlab_scripts,
    jobs,
    read,
    scripts,
)

BIN = Path(sys.executable).parent
SHELL_SCRIPTS = sorted(
    path for path in (*ROOT.glob("ci/*"), *ROOT.glob(".ci/*")) if path.is_file() and os.access(path, os.X_OK)
)
SCHEMAS = {
    "vendor.github-workflows": [*WORKFLOWS, SHARDS],
    "vendor.github-actions": ACTIONS,
    "vendor.gitlab-ci": [GITLAB],
    "vendor.buildkite": [BUILDKITE],
}
WRITES = {
    "nightly/night": {"issues"},
    "weekly/gpu": {"issues"},
    "comment/comment": {"pull-requests"},
    "accept-baselines/open": {"contents", "pull-requests"},
}
"""The jobs that may write, and what. Every other one reads."""
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
FORK_CODE = ROOT / ".github" / "workflows" / "pull-request.yml"
JOBS = list(jobs())
PYTEST_SCRIPTS = {"ci/test": 0, "ci/perf": 0, "ci/pull-request": 1, "ci/accept-baselines": 2, "ci/nightly": 0}
"""The scripts whose arguments are pytest's, and how many come before those."""


def tool(name: str, *words: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / name), *map(str, words)]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=60)


def passed(done: subprocess.CompletedProcess[str]) -> bool:
    assert done.returncode == 0, done.stdout + done.stderr
    return True


def test_actionlint_has_nothing_to_say() -> None:
    for files in ([], [SHARDS]):  # those of this repository, and the example
        assert passed(tool("actionlint", "-shellcheck", BIN / "shellcheck", *files))


def test_actionlint_sees_a_misspelt_key_and_a_word_without_quotes() -> None:
    text = WORKFLOWS[0].read_text().replace("timeout-minutes", "timeout-minute", 1).replace('"$DEVICE"', "$DEVICE")
    said = tool("actionlint", "-shellcheck", BIN / "shellcheck", "-", text=text).stdout
    assert 'unexpected key "timeout-minute"' in said
    assert "SC2086" in said


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_file_has_the_form_that_its_maker_published(schema: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text("jobs: 1\nsteps: 1\ntest: {script: {a: 1}}\n")
    for paths, status in ((SCHEMAS[schema], 0), ([broken], 1)):
        done = CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", schema, *map(str, paths)])
        assert done.exit_code == status, done.output


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say_of_a_script(path: Path) -> None:
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert passed(tool("shellcheck", path))


@pytest.mark.parametrize("script", [*gitlab_scripts(), *buildkite_scripts()], ids=lambda script: script.where)
def test_shellcheck_has_nothing_to_say_of_what_an_example_runs(script: Script) -> None:
    assert passed(tool("shellcheck", "--shell=bash", "-", text=script.text + "\n"))


def test_every_action_is_pinned_by_hash_and_named_by_version() -> None:
    used = {
        line.split("uses: ", 1)[1]
        for path in (*WORKFLOWS, SHARDS, *ACTIONS)
        for line in path.read_text().splitlines()
        if line.lstrip(" -").startswith("uses:")
    }
    others = {action for action in used if not action.startswith("./")}
    assert {action for action in others if not PINNED.fullmatch(action)} == set()
    assert len({action.partition("@")[0] for action in others}) == len(others), "an action has one version"
    assert all((ROOT / action / "action.yml").is_file() for action in used - others)


@pytest.mark.parametrize(("name", "workflow", "job"), JOBS, ids=[name for name, _, _ in JOBS])
def test_a_job_has_the_least_permissions_a_time_limit_and_a_group(
    name: str, workflow: dict[str, Any], job: dict[str, Any]
) -> None:
    assert workflow["permissions"] == {}
    assert set(job["permissions"].values()) <= {"read", "write"}
    assert {scope for scope, access in job["permissions"].items() if access == "write"} == WRITES.get(name, set())
    assert 0 < job["timeout-minutes"] <= 900
    group = job.get("concurrency") or workflow["concurrency"]
    assert isinstance(group["cancel-in-progress"], bool)


def test_two_jobs_never_share_a_gpu_and_none_ends_another() -> None:
    ours = {name: (workflow, job) for name, workflow, job in JOBS if not str(job["runs-on"]).startswith("ubuntu-")}
    shards = {"github-shards/measure", "github-shards/merge"}
    assert set(ours) == {"nightly/night", "weekly/gpu", "accept-baselines/measure", *shards}
    for workflow, job in ours.values():
        labels = job["runs-on"]
        label = labels if isinstance(labels, str) else labels[-1]
        group = {"group": f"runner-{label}", "cancel-in-progress": False, "queue": "max"}
        assert (job.get("concurrency") or workflow["concurrency"]) == group
    inputs = read(ROOT / ".github" / "workflows" / "accept-baselines.yml")["on"]["workflow_dispatch"]["inputs"]
    assert inputs["runner"]["default"] == "gpu"


def test_nothing_is_pasted_into_a_script() -> None:
    """An expression in a script is code to the shell. In `env` it is data."""
    assert [script.where for script in scripts() if expressions(script.text)] == []


def test_the_code_of_a_fork_meets_no_token() -> None:
    for path in WORKFLOWS:
        assert "pull_request_target" not in read(path)["on"]
    asked = expressions(FORK_CODE.read_text())
    assert [expression for expression in asked if "token" in expression or "secrets" in expression] == []
    for _, _, job in JOBS:
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
                assert set(step["with"]) <= {"persist-credentials", "fetch-depth"}, "only what GitHub itself chose"


def test_the_results_of_a_fork_land_outside_of_the_checkout() -> None:
    [job] = (job for name, _, job in JOBS if name == "comment/comment")
    [download] = (step for step in job["steps"] if step.get("uses", "").startswith("actions/download-artifact@"))
    assert download["with"]["path"].startswith("${{ runner.temp }}/")


@pytest.fixture(scope="module")
def pytest_options() -> set[str]:
    done = subprocess.run([sys.executable, "-m", "pytest", "--help"], cwd=ROOT, capture_output=True, text=True)
    return set(re.findall(r"(?<![\w-])--[a-z-]+", done.stdout))


def own_commands(script: Script) -> list[tuple[str, list[str]]]:
    """(what is run, its arguments) of the commands of this project in a script: `ci/...` or `hybrid-perf`."""
    found = []
    for command in script.commands():
        for index, word in enumerate(command):
            if word.startswith("ci/"):
                found.append((word, command[index + 1 :]))
            elif word.endswith("/hybrid-perf") or command[index - 1 : index + 1] == ["-m", "hybrid_ops.cli"]:
                found.append(("hybrid-perf", command[index + 1 :]))
    return found


def assert_parses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        build_parser().parse_args(words)
    except SystemExit:
        raise AssertionError(f"hybrid-perf {' '.join(words)}: {capsys.readouterr().err}") from None


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.where)
def test_what_a_workflow_runs_exists_and_takes_its_options(
    script: Script, pytest_options: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in own_commands(script):
        if name == "hybrid-perf":
            assert_parses(words, capsys)
            continue
        assert os.access(ROOT / name, os.X_OK), name
        if name == "ci/nightly":
            assert_parses(["night", *words], capsys)
            words = words[words.index("--") + 1 :] if "--" in words else []
        if name in PYTEST_SCRIPTS:
            options = [word.partition("=")[0] for word in words[PYTEST_SCRIPTS[name] :] if word.startswith("--")]
            assert set(options) <= pytest_options
        else:
            assert [word for word in words if word.startswith("--")] == []


def test_the_check_of_commands_sees_them() -> None:
    found = [name for script in scripts() for name, _ in own_commands(script)]
    assert {"hybrid-perf", "ci/nightly", "ci/test", "ci/gpu", "ci/proof", *PYTEST_SCRIPTS} - set(found) == {"ci/perf"}
    assert len([name for name in found if name == "hybrid-perf"]) >= 6


def test_every_tier_is_in_every_system_and_on_the_page() -> None:
    page = (ROOT / "docs" / "tiers.md").read_text()
    for tier in ("nightly", "weekly", "pull-request", "accept-baselines"):
        assert (ROOT / ".github" / "workflows" / f"{tier}.yml").is_file()
        assert f"| {tier} |" in page
    for path in (GITLAB, BUILDKITE):
        text = path.read_text()
        assert all(command in text for command in ("ci/pull-request", "--budget", "ci/gpu", "ci/accept-baselines"))
    assert [name for name in re.findall(r"\bci/[a-z/.-]*[a-z]", page) if not (ROOT / name).exists()] == []
