"""The workflows of CI as data: jobs, steps and the shell scripts in them, for GitHub, GitLab and Buildkite."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
GITLAB = ROOT / "ci" / "examples" / "gitlab-ci.yml"
SHARDS = ROOT / "ci" / "examples" / "github-shards.yml"
BUILDKITE = ROOT / "ci" / "examples" / "buildkite.yml"


def read(path: Path) -> Any:
    """A YAML file as plain lists and dicts."""
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def jobs() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, workflow, job) of every job on GitHub; the name is such as `nightly/night`."""
    for path in (*WORKFLOWS, SHARDS):
        workflow = read(path)
        for name, job in workflow["jobs"].items():
            yield f"{path.stem}/{name}", workflow, job


@dataclass(frozen=True)
class Script:
    """What a shell gets to run, and where it stands."""

    where: str
    text: str

    def commands(self) -> Iterator[list[str]]:
        """The words of each command. A word that the shell fills in is `1`, which any option takes."""
        for line in self.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            command: list[str] = []
            for word in lexer:
                if set(word) <= set("();<>|&"):
                    yield command
                    command = []
                else:
                    command.append("1" if "$" in word and not word.endswith("PYTHON:-python3}") else word)
            yield command


def scripts() -> list[Script]:
    """Every script of every workflow, action and example."""
    return [*github_scripts(), *gitlab_scripts(), *buildkite_scripts()]


def github_scripts() -> Iterator[Script]:
    for name, _, job in jobs():
        for number, step in enumerate(job["steps"]):
            if "run" in step:
                yield Script(f"{name}[{number}]", step["run"])
    for path in ACTIONS:
        for step in read(path)["runs"]["steps"]:
            if "run" in step:
                yield Script(path.parent.name, step["run"])


def gitlab_scripts() -> Iterator[Script]:
    for name, job in read(GITLAB).items():
        for key in ("script", "after_script"):
            if isinstance(job, dict) and key in job:
                yield Script(f"{GITLAB.name}/{name}", "\n".join(job[key]))


def buildkite_scripts() -> Iterator[Script]:
    for step in read(BUILDKITE)["steps"]:
        if "command" in step:
            yield Script(f"{BUILDKITE.name}/{step['label']}", step["command"].replace("$$", "$"))


def expressions(text: str) -> list[str]:
    """What stands between `${{` and `}}`."""
    return re.findall(r"\$\{\{\s*(.*?)\s*\}\}", text)
