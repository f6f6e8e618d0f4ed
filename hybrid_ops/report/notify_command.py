"""`hybrid-perf notify`: tell a webhook of a night, and keep an issue."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.regression.history.command import DEFAULT_STORE
from hybrid_ops.regression.history.nights import Nights, nights_until
from hybrid_ops.regression.history.store import History
from hybrid_ops.report.messages.markdown import markdown
from hybrid_ops.report.messages.night import NightNews, night_news
from hybrid_ops.report.messages.slack import slack
from hybrid_ops.report.receivers.http import NotTold, checked_url
from hybrid_ops.report.receivers.issue import keep_issue
from hybrid_ops.report.receivers.options import add_receiver_options, forge_from, link_from
from hybrid_ops.report.receivers.webhook import WEBHOOK, post

NOTHING_TO_SAY = "hybrid-perf notify: nothing to say"
Receiver = Callable[[Nights, NightNews], None]
"""Tells one receiver of the last of the nights; raises NotTold."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "notify",
        help="tell a webhook or an issue what a night has changed",
        description="Tell of the newest night in the history what is new, worse or recovered, and nothing where "
        "nothing is. A night whose message did not arrive is told with the next one. Exit status: 0 told or nothing to "
        "tell, 1 could not be told, 2 bad input.",
    )
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, metavar="FILE", help=f"default {DEFAULT_STORE}")
    parser.add_argument("--night", metavar="ID", help="tell of this night, told before or not (default: the newest)")
    parser.add_argument("--webhook", metavar="URL", help=f"which takes Slack's form (default: ${WEBHOOK})")
    parser.add_argument("--issue", choices=["github", "gitlab"], help="open, keep and close an issue there")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("perf_results"),
        metavar="DIR",
        help="where the summaries are, for the message (default perf_results)",
    )
    add_receiver_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the message of a night, or tell whoever is to be told. Raises InputError."""
    link = link_from(args)
    receivers = {} if args.dry_run else dict(_receivers(args))
    if not receivers and not args.dry_run:
        raise InputError(f"nobody is to be told: give --webhook, {WEBHOOK} or --issue, or print with --dry-run")
    failed = False
    with History(args.store) as history:
        nights = nights_until(history, args.night)
        if args.dry_run:
            name = "issue" if args.issue else "webhook"
            told = min(len(nights.nights) - 1, _told(nights, name, args.night is not None))
            _print(night_news(nights, told, args.results, link), name)
        for name, tell in receivers.items():
            told = _told(nights, name, args.night is not None)
            if args.night is None:
                nights.tell(name, told)  # so that a message that does not arrive is owed
            news = night_news(nights, told, args.results, link)
            try:
                tell(nights, news)
            except NotTold as error:
                print(f"hybrid-perf notify: not told: {error}", file=sys.stderr)
                failed = True
                continue
            if news.message is None:
                print(f"{NOTHING_TO_SAY} to the {name}", file=sys.stderr)
            if args.night is None:
                nights.tell(name, len(nights.nights))
    return 1 if failed else 0


def _print(news: NightNews, receiver: str) -> None:
    if news.message is None:
        print(NOTHING_TO_SAY, file=sys.stderr)
    else:
        print(markdown(news.message) if receiver == "issue" else slack(news.message), end="")


def _receivers(args: argparse.Namespace) -> Iterator[tuple[str, Receiver]]:
    """Who is to be told, by the name that the history keeps. Raises InputError."""
    webhook = args.webhook or os.environ.get(WEBHOOK)
    if webhook:
        url = checked_url(webhook, "--webhook" if args.webhook else WEBHOOK)
        yield "webhook", partial(_post, url, args.timeout)
    if args.issue is not None:
        yield "issue", partial(keep_issue, forge_from(args, args.issue)[1])


def _post(url: str, timeout: float, nights: Nights, news: NightNews) -> None:
    if news.message is not None:
        post(url, news.message, timeout)


def _told(nights: Nights, receiver: str, is_chosen: bool) -> int:
    """How many of the nights a receiver was told of: those before the last one, unless it is known to be otherwise."""
    told = None if is_chosen else nights.told(receiver)
    return len(nights.nights) - 1 if told is None else told
