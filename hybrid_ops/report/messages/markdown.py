"""Messages in the Markdown of GitHub and GitLab."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import quote

from hybrid_ops.report.messages.text import URL_LETTERS, Form, Message

MOST_LETTERS_OF_A_COMMENT = 65536
"""GitHub's limit; GitLab's is higher."""


class Markdown(Form):
    """All text from outside is a code span: nothing in it is markup, HTML, a mention or a reference."""

    bullet: ClassVar[str] = "- "
    indent: ClassVar[str] = "  - "

    def words(self, text: str) -> str:
        return re.sub(r"([\\`*_{}\[\]<>#|~@&])", r"\\\1", text)

    def code(self, text: str) -> str:
        """A span whose fence is longer than any in the text."""
        longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
        fence = "`" * (longest + 1)
        padding = " " if longest or not text else ""
        return f"{fence}{padding}{text or ' '}{padding}{fence}"

    def link(self, url: str) -> str:
        return f"<{quote(url, safe=URL_LETTERS)}>"

    def strong(self, text: str) -> str:
        return f"**{text}**"


def markdown(message: Message) -> str:
    """A message as Markdown."""
    return "\n".join(Markdown().lines(message)) + "\n"
