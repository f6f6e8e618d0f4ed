"""The server worker: an OpenAI-compatible server in a process of its own, and the load generator that asks it.

Speaks the protocol of `hybrid_ops.engines.protocol`; `vllm_server.py` says what the suite knows of it. It starts
`vllm serve` (or the command it is given) on a free loopback port, in its own process group, so that whoever ends this
group ends the server and all that the server spawned. The load generator is vLLM's own, `vllm bench serve`, called in
this process, so that its imports are paid once.

Depends on the standard library and vLLM alone.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from hybrid_ops.engines.protocol import (
    CommandResult,
    DeviceFacts,
    LoadFacts,
    LoadSample,
    ServedRequest,
    ServerFacts,
    end_group_with_parent,
    exceptions_in,
    serve,
)
from hybrid_ops.engines.vllm_plugins.fallbacks import REPLACED_VARIABLE

LOAD_GENERATOR = "vllm.benchmarks.serve"
SERVER_LOG = "server.log"
"""What the server prints, in the launch's folder beside this worker's own log."""
POLL_SECONDS = 0.1
ANSWER_SECONDS = 5.0
"""How long a server may take over a question that costs it nothing."""
STOP_SECONDS = 8.0
"""How long a server may take to end on its own before it is killed; less than the worker itself is given."""
SERVER_VARIABLES = {"VLLM_SERVER_DEV_MODE": "1"}
"""Lets `/reset_prefix_cache` be asked for. The server listens on loopback alone."""
REPLACED_FILE = "reference_kernels.txt"
"""Where the suite's vLLM plugin, in the server's process, notes what it has put a reference kernel in place of."""
VERSION_PATHS = {"/version": ("version", "vllm"), "/props": ("build_info", "llama.cpp")}
"""Where servers tell their version: the field of the answer, and whose version it is."""
WRAPPERS = ("See root cause above", "Engine core initialization failed")
"""Words of exceptions that only say that there was another one."""


class ServerError(RuntimeError):
    """The server did not start, ended, or is not what was asked for."""


class ServerWorker:
    """One server and one load generator."""

    def __init__(self) -> None:
        self.server: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.name = ""
        self.tokenizer = ""
        self._import = threading.Thread(target=self._import_load_generator, daemon=True)
        self._seen: dict[str, Any] = {}

    # --- the server -------------------------------------------------------------------------------------------------

    def load(
        self,
        model: str,
        arguments: dict[str, Any],
        names: list[str],
        command: list[str] | None,
        url: str | None,
        health_seconds: float,
        folder: str,
    ) -> LoadFacts:
        """Start the server, or find the running one at `url`, and return once it is healthy.

        `names` are what the model may be called; a server that is started here gets the first of them. What it leaves
        lies in `folder`, the launch's own. Raises ServerError with the server's own reason.
        """
        started = time.monotonic()
        os.chdir(folder)  # a worker that has waited for its launch was started in another folder, which goes with it
        self.tokenizer = model
        if url is None:
            self._import.start()  # beside the server's start, which takes longer
            self.name = names[0]
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            # The environment's proxies know nothing of this machine's loopback.
            direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = direct
            self._start(command or vllm_command(arguments), port, model)
            self._wait_until_healthy(started + health_seconds, "/health")
        else:
            self.url = url.rstrip("/")
            self._wait_until_healthy(started + health_seconds, "/v1/models")
        served = self._served_models()
        found = [name for name in names if name in served]
        if not found:
            raise ServerError(f"the server at {self.url} serves {', '.join(served) or 'no model'}, not {names[0]}")
        self.name = found[0]
        if url is not None:
            self._import.start()  # a running server that is not the one asked for is refused without it
        load_seconds = time.monotonic() - started
        self._import.join()
        return LoadFacts(
            load_seconds=load_seconds,
            model_bytes=None,
            cache=None,
            device=DeviceFacts("server" if url is not None else self._platform(), None, None, None, None),
            reference_kernels=replaced_operations(),
            versions=self._versions(is_own_vllm=url is None and command is None),
            server=ServerFacts(self.url, self.name, own=url is None),
        )

    def _versions(self, is_own_vllm: bool) -> dict[str, str]:
        """Versions of the server: this environment's if it runs in it, else what the server itself says."""
        if is_own_vllm:
            return {name: importlib.metadata.version(name) for name in ("vllm", "torch", "transformers")}
        for path, (field, name) in VERSION_PATHS.items():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
                status, body = self._ask("GET", path, ANSWER_SECONDS)
                if status == 200:
                    return {name: str(json.loads(body)[field])}
        return {}

    def _start(self, command: list[str], port: int, model: str) -> None:
        values = {"python": sys.executable, "port": str(port), "model": model, "name": self.name}
        words = [word.format(**values) for word in command]
        with Path(SERVER_LOG).open("ab") as log:
            self.server = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**SERVER_VARIABLES, REPLACED_VARIABLE: str(Path(REPLACED_FILE).absolute()), **os.environ},
            )

    def _wait_until_healthy(self, deadline: float, path: str) -> None:
        last = "no answer"
        while True:
            self._check_alive("before it was healthy")
            left = deadline - time.monotonic()
            if left <= 0:
                self.stop()
                raise ServerError(f"the server was not healthy in time: {path}: {last}{self._reason()}")
            try:
                status, _ = self._ask("GET", path, min(ANSWER_SECONDS, left))
            except (OSError, http.client.HTTPException) as error:
                last = str(error)
            else:
                if status == 200:
                    return
                last = f"status {status}"
            time.sleep(POLL_SECONDS)

    def _check_alive(self, when: str) -> None:
        """Raise ServerError if our own server has ended."""
        if self.server is None or (code := self.server.poll()) is None:
            return
        how = f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        raise ServerError(f"the server ended {when}: {how}{self._reason()}")

    def _reason(self) -> str:
        """The server's own last exception, if it has one to show."""
        try:
            log = Path(SERVER_LOG).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        found = exceptions_in(log, following_lines=3)
        told = [reason for reason in found if not any(word in reason for word in WRAPPERS)] or found
        return f" [last error in {SERVER_LOG}: {told[-1]}]" if told else ""

    def _served_models(self) -> list[str]:
        status, body = self._ask("GET", "/v1/models", ANSWER_SECONDS)
        if status != 200:
            raise ServerError(f"{self.url}/v1/models: status {status}")
        try:
            return [model["id"] for model in json.loads(body)["data"]]
        except (ValueError, KeyError, TypeError):
            raise ServerError(f"{self.url}/v1/models is not a list of models in OpenAI's form") from None

    def _ask(self, method: str, path: str, seconds: float) -> tuple[int, bytes]:
        key = os.environ.get("OPENAI_API_KEY")  # as the load generator does
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers)  # noqa: S310 - http
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def stop(self) -> None:
        """End our own server: ask, then insist."""
        if self.server is None or self.server.poll() is not None:
            return
        self.server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.server.wait(STOP_SECONDS)
        self.server.kill()
        self.server.wait()

    # --- the load ---------------------------------------------------------------------------------------------------

    def bench(self, options: list[str], reset_prefix_cache: bool) -> LoadSample:
        """Put one load on the server with the options of `vllm bench serve` and return what it saw."""
        self._check_alive("before this load")
        if reset_prefix_cache:
            self._ask("POST", "/reset_prefix_cache", ANSWER_SECONDS)  # a server that has none keeps what it has
        self._import.join()
        generator = importlib.import_module(LOAD_GENERATOR)
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        parser = FlexibleArgumentParser()
        generator.add_cli_args(parser)
        where = ["--base-url", self.url, "--model", self.name, "--tokenizer", self.tokenizer]
        self._seen = {}
        # Parsed anew for each load: the generator changes its arguments.
        result = generator.main(parser.parse_args([*options, *where, "--disable-tqdm"]))
        self._check_alive("during the load")
        requests = [
            ServedRequest(output.success, output.error, request.expected_output_len, output.output_tokens or None)
            for request, output in zip(self._seen["input_requests"], self._seen["outputs"])
        ]
        scalars = {name: value for name, value in result.items() if isinstance(value, int | float | str)}
        outputs = self._seen["outputs"]
        sent, ended = [one.start_time for one in outputs], [one.start_time + one.latency for one in outputs]
        return LoadSample(scalars, requests, (min(sent), max(ended)))

    def run(self, command: list[str]) -> CommandResult:
        """Run a command beside the server, in its session.

        Linux shares the processors among sessions first, so a client in another session meets another server.
        """
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return CommandResult(done.returncode, done.stdout + done.stderr)

    def _import_load_generator(self) -> None:
        """Import the load generator and have it show the requests and outputs that it computes its metrics from."""
        generator: Any = importlib.import_module(LOAD_GENERATOR)
        calculate = generator.calculate_metrics

        @functools.wraps(calculate)
        def seen(**arguments: Any) -> Any:
            self._seen = arguments
            return calculate(**arguments)

        generator.calculate_metrics = seen

    def _platform(self) -> str:
        from vllm.platforms import current_platform

        return "cuda" if current_platform.is_cuda_alike() else current_platform.device_type


def vllm_command(arguments: dict[str, Any]) -> list[str]:
    """`vllm serve` with `EngineArgs` as options. Braces are doubled: the command's words are templates."""
    words = ["{python}", "-m", "vllm.entrypoints.cli.main", "serve", "{model}"]
    words += ["--host", "127.0.0.1", "--port", "{port}", "--served-model-name", "{name}"]
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            words += [f"--{option}", text.replace("{", "{{").replace("}", "}}")]
    return words


def replaced_operations() -> list[str]:
    """The operations for which the suite's vLLM plugin put reference kernels into the server."""
    try:
        return sorted(set(Path(REPLACED_FILE).read_text(encoding="utf-8").split()))
    except OSError:
        return []


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    end_group_with_parent()
    worker = ServerWorker()
    try:
        serve({"load": worker.load, "bench": worker.bench, "run": worker.run})
    finally:
        worker.stop()
        sys.stdout.flush()
        os._exit(0)  # without waiting for an import that may still be going on


if __name__ == "__main__":
    main()
