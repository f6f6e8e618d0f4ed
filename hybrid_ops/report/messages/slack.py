"""Messages in Slack's form: its own markup in blocks, which many other webhooks take too."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from hybrid_ops.report.messages.text import URL_LETTERS, Form, Message

MOST_LETTERS_OF_A_BLOCK = 3000
MOST_BLOCKS = 50


class Slack(Form):
    """Slack's mrkdwn, where `&`, `<` and `>` begin links and mentions, and a code span cannot hold a backtick."""

    bullet: ClassVar[str] = "• "
    indent: ClassVar[str] = "      "

    def words(self, text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def code(self, text: str) -> str:
        return f"`{self.words(text.replace('`', 'ʼ')) or ' '}`"

    def link(self, url: str) -> str:
        return f"<{self.words(quote(url, safe=URL_LETTERS))}>"

    def strong(self, text: str) -> str:
        # A code span within `*...*` ends the bold text early, so a title with one is left as it is.
        return text if "`" in text else f"*{text}*"


def slack(message: Message) -> str:
    """A message as one text."""
    return "\n".join(Slack().lines(message)) + "\n"


def slack_payload(message: Message) -> dict[str, Any]:
    """What a webhook is sent: `text`, which a notification shows, and `blocks`, which the channel shows."""
    form = Slack()
    return {
        "text": form.write(message.title),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in _blocks(form.lines(message))
        ],
    }


def _blocks(lines: list[str]) -> list[str]:
    """Lines as texts that are not too long, each cut between lines."""
    blocks: list[str] = []
    for line in lines:
        fitting = line[:MOST_LETTERS_OF_A_BLOCK]
        if blocks and len(blocks[-1]) + 1 + len(fitting) <= MOST_LETTERS_OF_A_BLOCK:
            blocks[-1] += "\n" + fitting
        else:
            blocks.append(fitting)
    return [block for block in blocks if block.strip()][:MOST_BLOCKS]
