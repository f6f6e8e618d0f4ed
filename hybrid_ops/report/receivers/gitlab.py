"""GitLab: https://docs.gitlab.com/api/ (version 4)."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from hybrid_ops.report.receivers.forge import ISSUE_LABEL, Forge, Post
from hybrid_ops.report.receivers.http import Api

GITLAB_API = "https://gitlab.com/api/v4"
GITLAB_TOKEN = "GITLAB_TOKEN"  # noqa: S105 - the name of a variable


class GitLab(Forge):
    """A project, whose pull requests are merge requests and whose comments are notes."""

    def __init__(self, project: str, token: str, timeout: float, api: str = GITLAB_API) -> None:
        self._api = Api(api, token, timeout)
        self._project = f"/projects/{quote(project, safe='')}"

    def comments(self, pull_request: int) -> Iterator[Post]:
        query = {"sort": "asc", "order_by": "created_at"}
        for one in self._api.pages(f"{self._project}/merge_requests/{pull_request}/notes", query):
            yield Post.read(one, "id", "body")

    def add_comment(self, pull_request: int, body: str) -> None:
        self._api.call("POST", f"{self._project}/merge_requests/{pull_request}/notes", {"body": body})

    def change_comment(self, pull_request: int, comment: int, body: str) -> None:
        self._api.call("PUT", f"{self._project}/merge_requests/{pull_request}/notes/{comment}", {"body": body})

    def open_issues(self) -> Iterator[Post]:
        for one in self._api.pages(f"{self._project}/issues", {"state": "opened", "labels": ISSUE_LABEL}):
            yield Post.read(one, "iid", "description")

    def open_issue(self, title: str, body: str) -> None:
        self._api.call("POST", f"{self._project}/issues", {"title": title, "description": body, "labels": ISSUE_LABEL})

    def comment_on_issue(self, issue: int, body: str) -> None:
        self._api.call("POST", f"{self._project}/issues/{issue}/notes", {"body": body})

    def close_issue(self, issue: int) -> None:
        self._api.call("PUT", f"{self._project}/issues/{issue}", {"state_event": "close"})
