"""A FAKE OpenAI-compatible server: a real process that answers made-up tokens and misbehaves on command.

vLLM cannot be told to fail in a chosen way; this can. What it does follows from its arguments and, request by request,
from `max_tokens`, so that one launch can meet several faults:

    --start    ok | exit | deaf (listens, never healthy) | unhealthy (answers 503)
    --tells    /version (as vLLM does) | /props (as llama-server does): where it tells its version; nowhere by default
    --replaced an operation that it says to run on a reference kernel, as the suite's plugin in vLLM's process does
    max_tokens 41: status 500        42: the stream ends early, politely     43: the connection breaks within the stream
               44: never ends        45: the server dies                     others: as asked for
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STATUS_500, SHORT, BROKEN, ENDLESS, DEADLY = 41, 42, 43, 44, 45
SECONDS_A_TOKEN = 0.001
REPLACED_VARIABLE = "HYBRID_OPS_REPLACED"
VERSIONS = {"/version": {"version": "9.9.fake"}, "/props": {"build_info": "b1-fake"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = ""
    start = "ok"
    tells: str | None = None

    def do_GET(self) -> None:
        if self.path == "/health" and self.start == "unhealthy":
            self.send_error(503)
        elif self.path in VERSIONS and self.path == self.tells:
            self.send_document(VERSIONS[self.path])
        elif self.path in VERSIONS:
            self.send_error(404)
        else:
            self.send_document({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if not self.path.endswith("/completions"):
            self.send_error(404)
            return
        tokens = request["max_tokens"]
        if tokens == STATUS_500:
            self.send_error(500)
        elif tokens == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self.stream(tokens, len(request["prompt"].split()))

    def stream(self, tokens: int, prompt_tokens: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(tokens):
            self.send_event({"choices": [{"index": 0, "text": f"w{number} "}]})
            time.sleep(SECONDS_A_TOKEN)
            if number == 2 and tokens == SHORT:
                break
            if number == 2 and tokens == BROKEN:
                self.close_connection = True
                return
            if number == 2 and tokens == ENDLESS:
                threading.Event().wait()
        if tokens != SHORT:
            usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
            self.send_event({"choices": [], "usage": usage})
        self.send_chunk(b"data: [DONE]\n\n")
        self.send_chunk(b"")

    def send_event(self, document: dict) -> None:
        self.send_chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def send_document(self, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing: a line a request would hide what the tests look for."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--start", choices=["ok", "exit", "deaf", "unhealthy"], default="ok")
    parser.add_argument("--tells", choices=list(VERSIONS))
    parser.add_argument("--replaced")
    arguments = parser.parse_args()
    print(f"fake server on port {arguments.port}", flush=True)
    if arguments.start == "exit":
        print("RuntimeError: no kernel image for this device", file=sys.stderr)
        sys.exit(3)
    if arguments.replaced:
        Path(os.environ[REPLACED_VARIABLE]).write_text(f"{arguments.replaced}\n")
    Handler.name, Handler.start, Handler.tells = arguments.name, arguments.start, arguments.tells
    server = Server(("127.0.0.1", arguments.port), Handler)
    if arguments.start == "deaf":
        threading.Event().wait()
    server.serve_forever()


if __name__ == "__main__":
    main()
