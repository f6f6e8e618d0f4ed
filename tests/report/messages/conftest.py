"""A forge on this machine, and a command line that talks to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.report.messages.forge_server import TOKEN, Forge, running_forge

OF_JOBS = ("GITHUB_REPOSITORY", "GITHUB_API_URL", "GITHUB_EVENT_PATH", "GITHUB_SERVER_URL", "GITHUB_RUN_ID",
           "CI_API_V4_URL", "CI_PROJECT_ID", "CI_MERGE_REQUEST_IID", "CI_JOB_URL", "HYBRID_PERF_WEBHOOK")  # fmt: skip


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CI job, and tokens for both forges."""
    for name in OF_JOBS:
        monkeypatch.delenv(name, raising=False)
    for name in ("GITHUB_TOKEN", "GITLAB_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def forge() -> Iterator[Forge]:
    with running_forge() as running:
        yield running
