"""A webhook that takes Slack's form."""

from __future__ import annotations

from urllib.parse import urlsplit

from hybrid_ops.report.messages.slack import slack_payload
from hybrid_ops.report.messages.text import Message
from hybrid_ops.report.receivers.http import origin, send

WEBHOOK = "HYBRID_PERF_WEBHOOK"
LEAST_LETTERS_OF_A_SECRET = 6
"""Shorter pieces of an address are no secret, and are parts of many words."""


def post(url: str, message: Message, timeout: float) -> None:
    """Post a message. Raises NotTold, which shows the webhook's host and never its path, which is its secret."""
    parts = urlsplit(url)
    pieces = (url, parts.path, parts.query, parts.password or "", *parts.path.split("/"))
    secrets = tuple(piece for piece in pieces if len(piece) >= LEAST_LETTERS_OF_A_SECRET)
    send("POST", url, timeout=timeout, shown=f"{origin(url)}/…", secrets=secrets, document=slack_payload(message))
