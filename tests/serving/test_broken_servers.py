"""Servers that misbehave, as real processes: the case fails to run, in time, with the reason, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_ops.engines.devices import cpu
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.launch import Launch, Terms, run_launch
from hybrid_ops.measure.procedures.serving import Serving
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.workloads.serving import ServingWorkload
from tests.serving.conftest import fake_engine, processes_under
from tests.serving.fake_server import BROKEN, DEADLY, ENDLESS, SHORT, STATUS_500

GOOD = 16
IMPORT_PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}


def load(tokens: int) -> ServingWorkload:
    return ServingWorkload(
        description="a few requests",
        prompt_tokens=8,
        generation_tokens=tokens,
        num_prompts=4,
        max_concurrency=2,
        warmup_iterations=0,
        timed_iterations=1,
    )


def launch(spec: EngineSpec, folder: Path, tokens: dict[str, int], deadline_seconds: float) -> LaunchRecord:
    cases = [Case(spec, name, load(count), Serving()) for name, count in tokens.items()]
    stages = {"load": deadline_seconds, "compile": 0.0, "capture": 0.0}
    return run_launch(Launch(spec, cases, 1, cpu(), folder), Terms(deadline_seconds, stages))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("exit", "ServerError: the server ended before it was healthy: exit status 3 "
                 "[last error in server.log: RuntimeError: no kernel image for this device]"),
        ("deaf", "ServerError: the server was not healthy in time: /health: timed out"),
        ("unhealthy", "ServerError: the server was not healthy in time: /health: status 503"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_start(
    nothing_left: Callable[[Path], None],
    tmp_path: Path,
    start: str,
    reason: str,
) -> None:
    began = time.monotonic()
    record = launch(fake_engine(start), tmp_path, {"any": GOOD}, deadline_seconds=3)
    assert record.error == reason
    assert time.monotonic() - began < 15
    nothing_left(tmp_path)


def test_loads_that_fail_do_so_alone(nothing_left: Callable[[Path], None], tmp_path: Path) -> None:
    tokens = {"good": GOOD, "status": STATUS_500, "short": SHORT, "broken": BROKEN}
    record = launch(fake_engine("ok"), tmp_path, tokens, deadline_seconds=60)
    assert record.error is None
    errors = {name: record.cases[f"fake/{name}"].error for name in tokens}
    assert errors["good"] is None
    assert errors["status"] == "not a measurement: 4 of 4 requests failed: Internal Server Error"
    assert errors["short"] == "not a measurement: 4 of 4 streams ended without the server's count of tokens"
    assert errors["broken"].startswith("not a measurement: 4 of 4 requests failed: ")
    assert "ClientPayloadError" in errors["broken"]
    good = record.cases["fake/good"].values
    assert (good["completed"], good["failed"], good["total_input_tokens"]) == (4, 0, 32)
    assert all(record.cases[f"fake/{name}"].values == {} for name in tokens if name != "good")
    nothing_left(tmp_path)


@pytest.mark.long
def test_a_server_that_dies_under_load(nothing_left: Callable[[Path], None], tmp_path: Path) -> None:
    record = launch(fake_engine("ok"), tmp_path, {"deadly": DEADLY}, deadline_seconds=60)
    assert (
        record.cases["fake/deadly"].error == "ServerError: the server ended during the load: killed by signal SIGKILL"
    )
    nothing_left(tmp_path)


@pytest.mark.long
def test_a_stream_that_never_ends_is_cut_at_the_deadline(nothing_left: Callable[[Path], None], tmp_path: Path) -> None:
    record = launch(fake_engine("ok"), tmp_path, {"endless": ENDLESS}, deadline_seconds=8)
    assert record.error == "no answer to 'bench' within 8 s; killed"
    nothing_left(tmp_path)


KILLED_RUN = """
from pathlib import Path
from tests.serving.test_broken_servers import ENDLESS, fake_engine, launch
launch(fake_engine("ok"), Path({folder!r}), {{"endless": ENDLESS}}, deadline_seconds=300)
"""


def test_a_killed_run_takes_its_server_with_it(nothing_left: Callable[[Path], None], tmp_path: Path) -> None:
    script = KILLED_RUN.format(folder=str(tmp_path))
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, env={**os.environ, **IMPORT_PATH})
    deadline = time.monotonic() + 60
    log = tmp_path / "server.log"
    while not (log.exists() and "fake server on port" in log.read_text()):
        assert run.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, "the server was never started"
    run.send_signal(signal.SIGKILL)
    run.wait()
    while processes_under(tmp_path):
        assert time.monotonic() < deadline, "a process outlived the run"
    nothing_left(tmp_path)
