"""A server on this machine that plays GitHub, GitLab and a webhook, and refuses, hangs or hangs up on command."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SECRET_PATH = "/services/T0/B0/secret-of-the-webhook"
TOKEN = "ghp_token-that-nobody-may-see"


class Forge(ThreadingHTTPServer):
    """What the forge keeps, what it was asked, and how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.notes_of_issues: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str | None] = []
        self.fault: int | str | None = None
        """A status that it answers with, `hang`, `drop`, or `no json`."""
        self.may_label = True
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [request for request in self.requests if request[0] != "GET"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that has given up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Forge

    def do_any(self) -> None:
        address = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
        self.server.requests.append((self.command, address.path))
        self.server.tokens.append(self.headers.get("Authorization"))
        fault = self.server.fault
        if fault == "hang":
            self.server.is_over.wait()
        elif fault == "drop":
            self.close_connection = True
        elif fault == "no json":
            self.answer(200, "<html>")
        elif isinstance(fault, int):
            self.answer(fault, {"message": f"refused: {self.headers.get('Authorization')} {self.path}"})
        else:
            query = {name: values[-1] for name, values in parse_qs(address.query).items()}
            self.play(address.path, query, body)

    do_GET = do_POST = do_PATCH = do_PUT = do_any

    def play(self, path: str, query: dict[str, str], body: Any) -> None:
        forge = self.server
        asked = f"{self.command} {path}"
        if path == SECRET_PATH:
            forge.messages.append(body)
            self.answer(200, "ok")  # as Slack answers
        elif re.fullmatch(r"GET /(repos/own/repo/issues/7/comments|projects/own%2Frepo/merge_requests/7/notes)", asked):
            self.page(forge.comments, query)
        elif re.fullmatch(
            r"POST /(repos/own/repo/issues/7/comments|projects/own%2Frepo/merge_requests/7/notes)", asked
        ):
            forge.comments.append({"id": len(forge.comments) + 1, "body": body["body"]})
            self.answer(201, forge.comments[-1])
        elif found := re.fullmatch(
            r"(?:PATCH /repos/own/repo/issues/comments|PUT /projects/own%2Frepo/merge_requests/7/notes)/(\d+)", asked
        ):
            forge.comments[int(found[1]) - 1]["body"] = body["body"]
            self.answer(200, forge.comments[int(found[1]) - 1])
        else:
            self.play_issues(asked, query, body)

    def play_issues(self, asked: str, query: dict[str, str], body: Any) -> None:
        forge = self.server
        if re.fullmatch(r"GET /(repos|projects)/own(/|%2F)repo/issues", asked):
            assert (query["state"], query["labels"]) in {("open", "hybrid-perf"), ("opened", "hybrid-perf")}
            self.page([issue for issue in forge.issues if issue["state"] == "open"], query)
        elif re.fullmatch(r"POST /(repos|projects)/own(/|%2F)repo/issues", asked):
            number = len(forge.issues) + 1
            labels = body["labels"] if forge.may_label else []
            forge.issues.append({**body, "labels": labels, "number": number, "iid": number, "state": "open"})
            self.answer(201, forge.issues[-1])
        elif re.fullmatch(r"POST /(repos|projects)/own(/|%2F)repo/issues/\d+/(comments|notes)", asked):
            forge.notes_of_issues.append(body["body"])
            self.answer(201, {})
        elif found := re.fullmatch(r"(?:PATCH|PUT) /(?:repos|projects)/own(?:/|%2F)repo/issues/(\d+)", asked):
            assert "closed" in body.values() or "close" in body.values()
            forge.issues[int(found[1]) - 1]["state"] = "closed"
            self.answer(200, {})
        else:
            self.answer(404, {"message": "Not Found"})

    def page(self, everything: list[dict[str, Any]], query: dict[str, str]) -> None:
        size, number = int(query["per_page"]), int(query.get("page", 1))
        more = number * size < len(everything)
        link = {"Link": f'<{self.server.url}{self.path}&page={number + 1}>; rel="next"'} if more else {}
        self.answer(200, everything[(number - 1) * size : number * size], link)

    def answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        data = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Nothing: tests look at what the program prints."""


@contextmanager
def running_forge() -> Iterator[Forge]:
    with Forge() as forge:
        thread = threading.Thread(target=forge.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield forge
        finally:
            forge.is_over.set()
            forge.shutdown()
            thread.join()
