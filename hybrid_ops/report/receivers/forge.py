"""What a forge is: pull requests with comments, and issues. One class, in one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hybrid_ops.report.receivers.http import NotTold

ISSUE_LABEL = "hybrid-perf"
"""Marks the issues of this suite, so that they are found again among thousands."""


@dataclass(frozen=True)
class Post:
    """A comment or an issue that is there."""

    identifier: int
    body: str

    @classmethod
    def read(cls, answer: Mapping[str, Any], identifier: str, body: str) -> Post:
        """One of a forge's answers, by the names of its fields there. Raises NotTold."""
        number, text = answer.get(identifier), answer.get(body)
        if not isinstance(number, int) or not isinstance(text, str | None):
            raise NotTold(f"the forge names a comment or issue without {identifier} or with an odd {body}")
        return cls(number, text or "")


class Forge(ABC):
    """One project on one forge. Every method raises NotTold where the forge refuses or does not answer."""

    @abstractmethod
    def comments(self, pull_request: int) -> Iterable[Post]:
        """The comments on a pull request, oldest first."""

    @abstractmethod
    def add_comment(self, pull_request: int, body: str) -> None:
        """Write a new comment on a pull request."""

    @abstractmethod
    def change_comment(self, pull_request: int, comment: int, body: str) -> None:
        """Put another text in place of a comment's."""

    @abstractmethod
    def open_issues(self) -> Iterable[Post]:
        """The open issues that have the suite's label."""

    @abstractmethod
    def open_issue(self, title: str, body: str) -> None:
        """Open an issue with the suite's label."""

    @abstractmethod
    def comment_on_issue(self, issue: int, body: str) -> None:
        """Write a comment on an issue."""

    @abstractmethod
    def close_issue(self, issue: int) -> None:
        """Close an issue."""


def find(posts: Iterable[Post], mark: str) -> Post | None:
    """The first post that begins with a mark."""
    return next((post for post in posts if post.body.startswith(mark)), None)
