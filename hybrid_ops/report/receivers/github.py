"""GitHub: https://docs.github.com/rest (version 2022-11-28)."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_ops.report.receivers.forge import ISSUE_LABEL, Forge, Post
from hybrid_ops.report.receivers.http import Api, NotTold

GITHUB_API = "https://api.github.com"
GITHUB_TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the name of a variable


class GitHub(Forge):
    """A repository. To GitHub, a pull request is an issue too, so that both have their comments in one place."""

    def __init__(self, repository: str, token: str, timeout: float, api: str = GITHUB_API) -> None:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        self._api = Api(api, token, timeout, headers)
        self._issues = f"/repos/{repository}/issues"

    def comments(self, pull_request: int) -> Iterator[Post]:
        for one in self._api.pages(f"{self._issues}/{pull_request}/comments"):
            yield Post.read(one, "id", "body")

    def add_comment(self, pull_request: int, body: str) -> None:
        self._api.call("POST", f"{self._issues}/{pull_request}/comments", {"body": body})

    def change_comment(self, pull_request: int, comment: int, body: str) -> None:
        self._api.call("PATCH", f"{self._issues}/comments/{comment}", {"body": body})

    def open_issues(self) -> Iterator[Post]:
        for one in self._api.pages(self._issues, {"state": "open", "labels": ISSUE_LABEL}):
            if "pull_request" not in one:
                yield Post.read(one, "number", "body")

    def open_issue(self, title: str, body: str) -> None:
        made = self._api.call("POST", self._issues, {"title": title, "body": body, "labels": [ISSUE_LABEL]})
        if not made.get("labels"):  # GitHub leaves out, without a word, what a token may not set
            number = Post.read(made, "number", "body").identifier
            self.close_issue(number)
            raise NotTold(
                f"issue {number} got no label {ISSUE_LABEL}, without which it is not found again, and was "
                "closed: give the token the right to label issues"
            )

    def comment_on_issue(self, issue: int, body: str) -> None:
        self.add_comment(issue, body)

    def close_issue(self, issue: int) -> None:
        self._api.call("PATCH", f"{self._issues}/{issue}", {"state": "closed", "state_reason": "completed"})
