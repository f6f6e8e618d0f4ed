"""What a command line and a CI job say of the receivers: which project, which pull request, which token."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.report.receivers.forge import Forge
from hybrid_ops.report.receivers.github import GITHUB_API, GITHUB_TOKEN, GitHub
from hybrid_ops.report.receivers.gitlab import GITLAB_API, GITLAB_TOKEN, GitLab
from hybrid_ops.report.receivers.http import checked_url, token_from

SECONDS = 10.0
"""How long one step of a request may take."""
REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


def add_receiver_options(parser: argparse.ArgumentParser) -> None:
    """The options that both messages have."""
    parser.add_argument("--github", metavar="OWNER/REPO", help="a repository on GitHub (in a job there: its own)")
    parser.add_argument(
        "--gitlab", metavar="PROJECT", help="a project on GitLab, by number or path (in a job: its own)"
    )
    parser.add_argument("--api", metavar="URL", help="the forge's interface (default: the job's, or the public one)")
    parser.add_argument("--link", metavar="URL", help="where a reader finds more (in a job: the job's page)")
    parser.add_argument(
        "--timeout", type=_seconds, default=SECONDS, metavar="SECONDS", help=f"of a request (default {SECONDS:g})"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the text and send nothing; no token is needed")


def forge_from(args: argparse.Namespace, kind: str | None = None) -> tuple[str, Forge]:
    """The kind of forge, `github` or `gitlab`, and the project on it. Raises InputError where it is not told."""
    if args.github and args.gitlab:
        raise InputError("--github and --gitlab: give one of them")
    if kind is None:
        kind = "github" if args.github else "gitlab" if args.gitlab else _kind_of_job()
    if kind == "github":
        repository = args.github or os.environ.get("GITHUB_REPOSITORY")
        if not repository:
            raise InputError("--github OWNER/REPO is missing, and GITHUB_REPOSITORY is not set")
        if not REPOSITORY.fullmatch(repository):
            raise InputError(f"--github: OWNER/REPO is asked for, not {repository!r}")
        api = checked_url(args.api or os.environ.get("GITHUB_API_URL") or GITHUB_API, "--api")
        return kind, GitHub(repository, token_from(GITHUB_TOKEN), args.timeout, api)
    if kind == "gitlab":
        project = args.gitlab or os.environ.get("CI_PROJECT_ID")
        if not project:
            raise InputError("--gitlab PROJECT is missing, and CI_PROJECT_ID is not set")
        api = checked_url(args.api or os.environ.get("CI_API_V4_URL") or GITLAB_API, "--api")
        return kind, GitLab(project, token_from(GITLAB_TOKEN), args.timeout, api)
    raise InputError("no forge is named: give --github OWNER/REPO or --gitlab PROJECT, or print with --dry-run")


def pull_request_from(args: argparse.Namespace, kind: str) -> int:
    """The number of the pull request or merge request. Raises InputError where it is not told."""
    if kind == "github":
        number = args.pull_request or _number_of_event()
        if number is None:
            raise InputError("--pull-request N is missing, and GITHUB_EVENT_PATH names no pull request")
        return number
    if args.merge_request:
        return args.merge_request
    own = os.environ.get("CI_MERGE_REQUEST_IID", "")
    if not own.isdecimal():
        raise InputError("--merge-request N is missing, and CI_MERGE_REQUEST_IID is not set")
    return int(own)


def link_from(args: argparse.Namespace) -> str | None:
    """Where a reader finds more: what is asked for, or the page of the CI job. Raises InputError."""
    job = [os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    page = "{}/{}/actions/runs/{}".format(*job) if all(job) else os.environ.get("CI_JOB_URL")
    link = args.link or page
    return checked_url(link, "--link") if link else None


def _kind_of_job() -> str | None:
    """The forge whose CI job this is."""
    if os.environ.get("GITHUB_REPOSITORY"):
        return "github"
    return "gitlab" if os.environ.get("CI_PROJECT_ID") else None


def _number_of_event() -> int | None:
    """The pull request that started a job of GitHub Actions."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if not path:
        return None
    try:
        event: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        number = event.get("pull_request", {}).get("number")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not the event of a GitHub job: {error}") from None
    return number if isinstance(number, int) else None


def _seconds(text: str) -> float:
    """A time above 0. Raises argparse's error."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds
