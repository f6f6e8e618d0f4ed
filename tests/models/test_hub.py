"""Real weights at one commit, from a hub on this machine: a real HTTP server and the hub's own client."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.models.hub import download_weights, weights_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"the same weights"}


class Hub(BaseHTTPRequestHandler):
    """One repository with one commit, as much of the hub's protocol as its client asks for."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if path == f"/api/models/org/model/revision/{COMMIT}":
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "org/model", "modelId": "org/model", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith(f"/api/models/org/model/tree/{COMMIT}"):
            tree = [{"type": "file", "path": name, "size": len(text), "oid": "0"} for name, text in FILES.items()]
            body = json.dumps(tree).encode()
        else:
            body = FILES.get(path.removeprefix(f"/org/model/resolve/{COMMIT}/"), b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address. Weights are kept in a folder of the test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    Hub.asked = []
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def test_weights_are_downloaded_once_at_their_commit_in_one_form(hub: str) -> None:
    with pytest.raises(InputError, match=f"org/model at {COMMIT} is not in the cache of the hub"):
        weights_folder("org/model", COMMIT)
    assert download_weights("org/model", COMMIT, 60) is None
    folder = Path(weights_folder("org/model", COMMIT))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors")
    }
    Hub.asked = []
    assert download_weights("org/model", COMMIT, 60) is None
    assert Hub.asked == [], "what is here is not asked for again"


def test_weights_that_cannot_be_had_say_why(hub: str) -> None:
    problem = download_weights("org/model", "f" * 40, 60)
    assert problem is not None and problem.startswith(f"org/model at {'f' * 40} cannot be downloaded: ")
    assert download_weights("org/model", COMMIT, 0.001) == f"org/model at {COMMIT} was not downloaded within 0 s"
