"""Runs the jobs of the workflows on this machine, in clones of a repository of their own.

The scripts are those of the workflows, run by bash as GitHub's runner runs them. git, pytest and the suite are real;
the engine is the no-op. What stands in for GitHub: `gh` is a stub that writes down what it is asked, the artefact
actions copy folders, the action that makes `.venv` takes the interpreter of the tests, and `Rehearsal.given` has what
GitHub would put in place of each expression.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from tests.workflows import ROOT, read

PARTS = ("ci", "hybrid_ops", "tests/perf", "tests/conftest.py", "conftest.py", "pyproject.toml", "README.md",
         ".gitignore")  # fmt: skip
"""What the scripts need of this repository. The baselines are left out, so that each rehearsal begins without any."""
STUB_GH = """#!/usr/bin/env bash
# A stub of GitHub's own program: it writes down what it is asked, and knows one pull request.
printf '%s\\n' "$*" >> "$STUB_GH_LOG"
[ "$1" != api ] || echo 7
"""
ZOO = """
schema_version: 1
models:
  steady: {architecture: none, config: config.json, engine: noop, platforms: [cpu]}
"""
WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
suites:
  quick: [brief]
"""


@dataclass
class Job:
    """One job that was run."""

    clone: Path
    statuses: dict[str, int] = field(default_factory=dict)
    """The exit status of each script, by the name of its step."""
    printed: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    is_red: bool = False


class Rehearsal:
    """A repository `origin.git` with the suite on the no-op engine, and the jobs that run on clones of it."""

    def __init__(self, folder: Path, **given: str) -> None:
        self.folder = folder
        self.given = {"runner.temp": str(folder / "temp"), **given}
        """What each expression of a workflow is here."""
        self.artifacts = folder / "artifacts"
        self.gh_log = folder / "gh.log"
        self.environment = {**os.environ, **self._environment()}
        self._make_suite()
        self._make_origin()

    def _environment(self) -> dict[str, str]:
        stubs = self.folder / "stubs"
        stubs.mkdir()
        (stubs / "gh").write_text(STUB_GH)
        (stubs / "gh").chmod(0o755)
        (self.folder / "temp").mkdir()
        suite = ["--perf-device=cpu", "--perf-foreign-cpu=100%", "--perf-launches=1", "-k", "steady/",
                 f"--perf-models={self.folder}/zoo.yaml", f"--perf-workloads={self.folder}/workloads.yaml"]  # fmt: skip
        return {
            "PATH": f"{stubs}:{os.environ['PATH']}",
            "STUB_GH_LOG": str(self.gh_log),
            "PYTEST_ADDOPTS": shlex.join(suite),
            "PYTHONPATH": "",
            "TMPDIR": str(self.folder / "temp"),
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_REPOSITORY": "own/repo",
            "NO_PROXY": "127.0.0.1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{who}_{what}": "rehearsal" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def _make_suite(self) -> None:
        (self.folder / "zoo.yaml").write_text(ZOO)
        (self.folder / "workloads.yaml").write_text(WORKLOADS)
        (self.folder / "config.json").write_text('{"vocab_size": 100}')

    def _make_origin(self) -> None:
        source = self.folder / "source"
        for part in PARTS:
            (source / part).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, source / part)
        (source / "perf_baselines").mkdir()
        (source / "perf_baselines" / "README.md").write_text("Baselines.\n")
        self.git(source, "init", "--quiet", "--initial-branch=main")
        self.commit(source, "The suite")
        self.git(self.folder, "clone", "--quiet", "--bare", str(source), "origin.git")

    def git(self, folder: Path, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, clone: Path, message: str) -> str:
        self.git(clone, "add", "--all")
        self.git(clone, "commit", "--quiet", "--message", message)
        return self.git(clone, "rev-parse", "HEAD")

    def checkout(self, branch: str = "main") -> Path:
        """A new clone, at a branch."""
        clone = self.folder / f"clone-{len(list(self.folder.glob('clone-*')))}"
        self.git(self.folder, "clone", "--quiet", "--branch", branch, "origin.git", str(clone))
        return clone

    def job(self, workflow: str, name: str, clone: Path) -> Job:
        """Run a job's steps in a clone; a step after a failed one only where it says so."""
        written = read(ROOT / ".github" / "workflows" / f"{workflow}.yml")["jobs"][name]
        job = Job(clone)
        environment = {**self.environment, **self._filled(written.get("env", {}))}
        for number, step in enumerate(written["steps"]):
            condition = step.get("if", "success()")
            if condition in self.given and self.given[condition] != "true":
                continue
            if job.is_red and condition not in ("always()", "${{ !cancelled() }}"):
                continue
            if "run" in step:
                self._script(job, step, step.get("name", str(number)), environment)
            else:
                self._use(job, step)
        return job

    def _filled(self, variables: dict[str, Any]) -> dict[str, str]:
        """Variables with what GitHub would put for each expression. An expression that is not given is an error."""
        return {
            name: re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda found: self.given[found[1]], str(value))
            for name, value in variables.items()
        }

    def _script(self, job: Job, step: dict[str, Any], name: str, environment: dict[str, str]) -> None:
        output = self.folder / "temp" / "output"
        output.write_text("")
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(job.clone / ".git" / "summary.md")}
        done = subprocess.run(
            ["bash", "-e", "-c", step["run"]],
            cwd=job.clone,
            env={**environment, **files, **self._filled(step.get("env", {}))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        job.statuses[name] = done.returncode
        job.printed += done.stdout
        job.outputs.update(line.split("=", 1) for line in output.read_text().splitlines())
        job.is_red |= done.returncode != 0 and not step.get("continue-on-error", False)

    def _use(self, job: Job, step: dict[str, Any]) -> None:
        action = step["uses"].partition("@")[0]
        options = self._filled(step.get("with", {}))
        if action == "./.github/actions/environment":
            self._make_environment(job.clone)
        elif action == "actions/upload-artifact":
            self._upload(job.clone, self.artifacts / options["name"], options["path"].split())
        elif action == "actions/download-artifact":
            source = self.artifacts / (options.get("name") or options["pattern"])
            shutil.rmtree(job.clone / options["path"], ignore_errors=True)
            shutil.copytree(source, job.clone / options["path"])
        else:
            assert action == "actions/checkout", f"nothing stands in for {action}"

    def _upload(self, clone: Path, artifact: Path, patterns: list[str]) -> None:
        """Copy files, named from the folder that all patterns share."""
        fixed = [Path(*takewhile(lambda part: "*" not in part, Path(pattern).parts)) for pattern in patterns]
        root = clone / os.path.commonpath(fixed)
        shutil.rmtree(artifact, ignore_errors=True)
        for pattern in patterns:
            for path in clone.glob(pattern):
                target = artifact / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(path, target, dirs_exist_ok=True) if path.is_dir() else shutil.copy(path, target)

    def _make_environment(self, clone: Path) -> None:
        """A `.venv` whose programs are run by the interpreter of the tests, and which ci/setup takes for its own."""
        programs = clone / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in {"python": "", "hybrid-perf": " -m hybrid_ops.cli"}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{words} "$@"\n')
            (programs / name).chmod(0o755)
        lines = (clone / "ci" / "setup").read_text().splitlines()
        stamp = [line for line in lines if line.startswith(("locks=", "want="))]
        printed = subprocess.run(["bash", "-c", "\n".join([*stamp, 'echo "$want"'])], cwd=clone, capture_output=True)
        (clone / ".venv" / ".locks.sha256").write_bytes(printed.stdout)
