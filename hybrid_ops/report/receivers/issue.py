"""The issue of a device class: opened when something becomes bad, closed when all has recovered."""

from __future__ import annotations

from hybrid_ops.regression.history.nights import Nights
from hybrid_ops.report.messages.markdown import markdown
from hybrid_ops.report.messages.night import NightNews
from hybrid_ops.report.receivers.forge import Forge, find


def keep_issue(forge: Forge, nights: Nights, news: NightNews) -> None:
    """Open, tell or close the issue as a night's news asks for. Raises NotTold."""
    if news.message is None and not news.is_clear:
        return
    mark = f"<!-- hybrid-perf issue {_named(nights.device)} -->"
    issue = find(forge.open_issues(), mark)
    text = None if news.message is None else markdown(news.message)
    if issue is None:
        if text is not None and news.is_bad:
            forge.open_issue(f"Performance on {_named(nights.device)}", f"{mark}\n{text}")
        return
    if news.is_clear:
        text = f"{text or ''}\nNothing is bad any more as of night `{nights.nights[-1].name}`.\n"
    if text is not None:
        forge.comment_on_issue(issue.identifier, text)
    if news.is_clear:
        forge.close_issue(issue.identifier)


def _named(device: str) -> str:
    return device or "an unknown device"
