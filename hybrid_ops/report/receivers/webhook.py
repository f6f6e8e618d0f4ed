"""A webhook that takes Slack's form."""

from __future__ import annotations

from urllib.parse import urlsplit

from hybrid_ops.report.messages.slack import slack_payload
from hybrid_ops.report.messages.text import Message
from hybrid_ops.report.receivers.http import origin, send

WEBHOOK = "HYBRID_PERF_WEBHOOK"


def post(url: str, message: Message, timeout: float) -> None:
    """Post a message. Raises NotTold, which shows the webhook's host and never its path, which is its secret."""
    parts = urlsplit(url)
    secrets = tuple(secret for secret in (url, parts.path, parts.query, parts.password or "") if len(secret) > 1)
    send("POST", url, timeout=timeout, shown=f"{origin(url)}/…", secrets=secrets, document=slack_payload(message))
