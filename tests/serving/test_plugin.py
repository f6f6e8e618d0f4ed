"""Serving cases through the plugin, on the fake server: its own, and one that is already running."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.suite import Suite
from tests.serving.conftest import FAKE_COMMAND, FAKE_SERVER
from tests.serving.fake_server import STATUS_500

WORKLOADS = f"""
schema_version: 1
serving:
  load:
    description: a few requests
    prompt_tokens: 8
    generation_tokens: 16
    num_prompts: 6
    max_concurrency: [1, 2, unlimited]
    goodput: {{ttft: 10000}}
    timed_iterations: 1
  refused:
    description: a load that the server answers with errors
    prompt_tokens: 8
    generation_tokens: {STATUS_500}
    num_prompts: 2
    timed_iterations: 1
suites:
  quick: [load]
  refused: [load, refused]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

@pytest.mark.perf
def test_serving(serving_cell):
    check(serving_cell)
"""


@pytest.fixture
def serving_suite(pytester: pytest.Pytester) -> Suite:
    suite = Suite(pytester)
    (suite.root / "workloads.yaml").write_text(WORKLOADS)
    (suite.root / "test_suite.py").write_text(TEST_FILE)
    (suite.root / "config.json").write_text('{"vocab_size": 1000}')
    return suite


@pytest.fixture
def running_server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(FAKE_SERVER), "--port", str(port), "--name", "org/other-name"])
    deadline = time.monotonic() + 30
    while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
        assert time.monotonic() < deadline
    yield f"http://127.0.0.1:{port}"
    assert server.poll() is None, "the run ended a server that it had not started"
    server.kill()
    server.wait()


def test_a_run_measures_loads_and_prints_them(serving_suite: Suite) -> None:
    serving_suite.add_model("fake", server_command=[*FAKE_COMMAND, "--tells", "/version"])
    result = serving_suite.run("--perf-suite=refused", "--perf-launches=1", "-v", "-k", "fake/load or fake/refused")
    verdicts = serving_suite.verdicts()
    assert {verdict for cell, verdict in verdicts.items() if "/refused-" in cell} == {"failed-to-run"}
    assert {verdict for cell, verdict in verdicts.items() if cell.startswith("fake/load-")} <= {
        "missing-baseline",
        "invalid-environment",
    }
    assert {"fake/load-c1-mean_ttft_ms", "fake/load-unlimited-request_goodput"} <= verdicts.keys()
    assert "fake/refused-request_goodput" not in verdicts, "it has no service-level objective"
    result.stdout.fnmatch_lines(["*fake/refused mean_ttft_ms: failed-to-run*"])
    result.stdout.fnmatch_lines(["not a measurement: 2 of 2 requests failed: Internal Server Error"])
    for line in (
        "fake/load: the knee is at concurrency *",
        "fake/load-c2 (median of 1 launches): a few requests",
        "============ Serving Benchmark Result ============",
        "Successful requests:                     6",
        "Maximum request concurrency:             2",
        "Total input tokens:                      48",
        "Total generated tokens:                  96",
        "-----Time per Output Token (excl. 1st token)------",
    ):
        result.stdout.fnmatch_lines([line])
    [written] = serving_suite.root.glob("perf_results/*/serving.txt")
    assert written.read_text().count("Serving Benchmark Result") == 3
    document = serving_suite.results()
    [launch] = document["launches"]
    assert (Path(launch["log"]).parent / "server.log").is_file()
    assert launch["facts"]["versions"] == {"vllm": "9.9.fake"}, "the server's own, not this machine's"
    assert document["versions"].keys() == {"python", "hybrid-ops", "source", "vllm"}


@pytest.mark.long
def test_another_server_on_reference_kernels_waits_beside_the_first(serving_suite: Suite) -> None:
    """The next launch's worker waits in another folder while the first server is under load."""
    serving_suite.add_model("fake", server_command=[*FAKE_COMMAND, "--tells", "/version"])
    stand_in = [*FAKE_COMMAND, "--tells", "/props", "--replaced", "selective_scan"]
    serving_suite.add_model("stand-in", server_command=stand_in)
    assert serving_suite.run("--perf-launches=1", "-k", "fake/load-c1- or stand-in/load-c1-").ret == 0
    document = serving_suite.results()
    launches = {case.partition("/")[0]: launch for launch in document["launches"] for case in launch["cases"]}
    assert all((Path(launch["log"]).parent / "server.log").is_file() for launch in launches.values())
    assert document["versions"].keys() == {"python", "hybrid-ops", "source", "vllm", "llama.cpp"}
    assert launches["stand-in"]["facts"]["reference_kernels"] == ["selective_scan"]
    assert launches["stand-in"]["facts"]["versions"] == {"llama.cpp": "b1-fake"}
    reasons = {cell["metric"]: (cell["verdict"], cell["reason"]) for cell in document["cells"]
               if cell["case"] == "stand-in/load-c1" and cell["value"]}  # fmt: skip
    assert reasons["output_throughput"] == ("pass", "Not judged: measured on reference kernels (selective_scan).")
    assert reasons["completed"][0] == "missing-baseline", "what is exact counts, whichever kernel computed it"


@pytest.mark.long
def test_the_same_cases_on_a_running_server(serving_suite: Suite, running_server: str) -> None:
    serving_suite.add_model("fake")
    arguments = [f"--perf-server={running_server}/v1", "--perf-launches=1"]
    named = serving_suite.run(*arguments, "--perf-server-model=fake=org/other-name")
    assert named.ret == 0, named.stdout.str()
    document = serving_suite.results()
    assert document["device"]["class"] == f"server-{running_server[7:].replace('.', '-').replace(':', '-')}"
    assert {cell["verdict"] for cell in document["cells"]} == {"missing-baseline"}
    [launch] = document["launches"]
    assert launch["facts"]["server"] == {"url": running_server, "model": "org/other-name", "own": False}
    assert (launch["facts"]["versions"], launch["facts"]["reference_kernels"]) == ({}, []), "it has told nothing"
    assert "vllm" not in document["versions"]
    assert not (Path(launch["log"]).parent / "server.log").exists()

    unnamed = serving_suite.run(*arguments)
    assert unnamed.ret == 1
    unnamed.stdout.fnmatch_lines([f"*the server at {running_server} serves org/other-name, not fake*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--perf-server=localhost:8000"], "*--perf-server: a URL such as http://127.0.0.1:8000, not 'localhost:8000'"),
        (["--perf-server-model=fake=x"], "*--perf-server-model says what a running server calls*add --perf-server*"),
        (["--perf-server=http://h", "--perf-server-model=ghost=x"], "*MODEL=NAME with a model of the zoo*'ghost=x'"),
        (["--perf-server=http://h", "--perf-ab"], "*--perf-server: arms are engines that the suite starts*"),
    ],
)  # fmt: skip
def test_a_bad_server_option_is_one_line(serving_suite: Suite, arguments: list[str], message: str) -> None:
    serving_suite.add_model("fake")
    result = serving_suite.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("prompt_tokens: 8", "prompt_tokens: 0"), "*serving.load-c1.prompt_tokens: *greater than 0*"),
        (("    generation_tokens: 16\n", ""), "*a random load needs prompt_tokens and generation_tokens*"),
        (("[1, 2, unlimited]", "0"), "*max_concurrency must be above 0, or unlimited*"),
        (("[1, 2, unlimited]", "[1, many]"), "*serving.load-cmany.max_concurrency*"),
        (
            ("num_prompts: 6", "num_prompts: 6\n    burstiness: 0.5"),
            "*burstiness has no effect without a request_rate*",
        ),
        (("ttft: 10000", "itl: 10000"), "*serving.load-c1.goodput.itl*"),
        (("  quick: [load]", "  quick: [lode]"), "*suites.quick: no workload is named 'lode'*"),
    ],
)
def test_a_bad_load_is_one_line(serving_suite: Suite, change: tuple[str, str], message: str) -> None:
    serving_suite.add_model("fake")
    text = (serving_suite.root / "workloads.yaml").read_text()
    assert change[0] in text
    (serving_suite.root / "workloads.yaml").write_text(text.replace(*change, 1))
    result = serving_suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
