"""llama-bench as cases of real pytest runs: table, JUnit, baselines, arms and faults. The program is a fake."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hybrid_ops.yaml_files import round_trip_yaml
from tests.plugin.suite import Suite

FAKE = Path(__file__).parents[1] / "engines" / "fake_llama_bench.py"
WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
llama_bench:
  pp32: {description: a prompt, prompt_tokens: 32}
  tg8: {description: a generation at a depth, generation_tokens: 8, depth: 16}
configurations:
  other: {engine: llama-bench, models: [both]}
suites:
  quick: [pp32, tg8, brief, brief@other]
"""
CONFTEST = """
from pathlib import Path
from hybrid_ops.measure import energy_sources
pytest_plugins = ["hybrid_ops.plugin"]
energy_sources.RAPL = Path("no-counters-here")   # whatever the processor of this machine has
"""
COUNTER = """
import threading, time
zone = Path("counters/intel-rapl:0")
zone.mkdir(parents=True)
(zone / "name").write_text("package-0")
(zone / "max_energy_range_uj").write_text("1000000000000")

def count():
    beside = zone / "beside"
    beside.write_text(str(int(time.monotonic() * 10e6)))   # 10 W
    beside.replace(zone / "energy_uj")

def keep_counting():
    while True:
        count()
        time.sleep(0.01)

count()
energy_sources.RAPL = zone.parent
threading.Thread(target=keep_counting, daemon=True).start()
"""
"""The processor's counter, as this pytest's own conftest.py makes it up."""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

@pytest.mark.perf
def test_cell(cell):
    check(cell)
"""


class LlamaSuite(Suite):
    """A GGUF file by path, and a model of the no-op engine that is asked one workload in llama-bench too."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        super().__init__(pytester)
        pytester.makepyfile(test_suite=TEST_FILE)
        pytester.makeconftest(CONFTEST)
        (self.root / "workloads.yaml").write_text(WORKLOADS)
        (self.root / "small.gguf").write_bytes(b"GGUF")
        self.add_model("file", config=None, gguf="small.gguf", engine="llama-bench")
        self.add_model("both", gguf="small.gguf")
        pytester._monkeypatch.setenv("HYBRID_OPS_LLAMA_BENCH", str(FAKE))
        pytester._monkeypatch.setenv("FAKE_LLAMA_BENCH_RATE", "1000")

    def add_model(self, name: str, **entry: object) -> None:
        super().add_model(name, **entry)
        self.models[name] = {key: value for key, value in self.models[name].items() if value is not None}
        with (self.root / "zoo.yaml").open("w") as file:
            round_trip_yaml().dump({"schema_version": 1, "models": self.models}, file)


@pytest.fixture
def llama(pytester: pytest.Pytester) -> LlamaSuite:
    return LlamaSuite(pytester)


def test_a_file_is_measured_recorded_and_compared(llama: LlamaSuite) -> None:
    result = llama.run("-k", "tg8", "--update-baselines")
    text = result.stdout.str()
    result.stdout.fnmatch_lines(["model *size *params *backend *threads *fa *test *t/s"])
    [table] = (llama.root / "perf_results").glob("*/llama_bench.md")
    assert (
        "| model                          |       size |     params | backend    | threads | fa |" in table.read_text()
    )
    about = r"\| fake 1B F16 +\|   1\.91 MiB \|     1\.00 M \| CPU        \| +\d+ \|  1 \|"
    assert re.search(about + r" +tg8 @ d16 \| +[\d.]+ ± [\d.]+ \|", table.read_text())
    assert "build: fake (1)" in text
    assert "energy: not measured: this processor shows no energy counter" in text
    properties = {
        case.get("name"): {one.get("name"): one.get("value") for one in case.iter("property")}
        for case in ElementTree.parse(llama.root / "junit.xml").getroot().iter("testcase")
    }
    assert properties["test_cell[file/tg8-model_parameters]"]["value"] == "1000000"
    [table] = (llama.root / "perf_results").glob("*/llama_bench.md")
    assert "tg8 @ d16" in table.read_text()

    llama.edit_baseline("file", "file/tg8", "model_parameters", lambda value: value + 1)
    llama.run("-k", "tg8", "--perf-launches=1")
    verdicts = llama.verdicts()
    assert verdicts["file/tg8-model_bytes"] == "pass"
    assert verdicts["file/tg8-model_parameters"] == "changed"


def test_one_model_is_shown_in_two_engines(llama: LlamaSuite) -> None:
    result = llama.run("-k", "both and brief", "--perf-launches=1")
    result.stdout.re_match_lines(
        [
            r"workload +engine +version +output tok/s +ratio",
            r"both/brief +noop +1 +\d+\.\d  1\.00",
            r"both@other/brief +llama-bench +fake \(1\) +\d+\.\d  \d+\.\d\d",
        ],
        consecutive=True,
    )
    assert llama.verdicts()["both@other/brief-output_tokens"] == "missing-baseline"


def test_energy_is_a_metric_where_a_counter_can_be_read(llama: LlamaSuite) -> None:
    llama.pytester.makeconftest(CONFTEST + COUNTER)
    llama.pytester._monkeypatch.setenv("FAKE_LLAMA_BENCH_REAL_TIME", "1")  # so that the counter moves as the time does
    result = llama.run("-k", "tg8", "--perf-launches=1")
    result.stdout.re_match_lines([r"case +J +J/tok +tok/J +mean W +SM MHz +covered", r"file/tg8 +.* — +100%"])
    assert "energy: RAPL's package counters, the timed iterations alone" in str(result.stdout)
    cells = {cell["metric"]: cell for cell in llama.results()["cells"]}
    assert cells["mean_power_watts"]["value"] == pytest.approx(10, rel=0.3)
    assert cells["joules_per_token"]["value"] == pytest.approx(1 / cells["tokens_per_joule"]["value"])
    assert "mean_sm_clock_mhz" not in cells
    [launch] = llama.results()["launches"]
    assert launch["cases"]["file/tg8"]["values"]["energy_coverage"] >= 0.9


@pytest.mark.long
def test_two_binaries_are_two_arms(llama: LlamaSuite) -> None:
    slow = llama.root / "slow-llama-bench"
    slow.write_text(f'#!/bin/sh\nFAKE_LLAMA_BENCH_BUILD=slow FAKE_LLAMA_BENCH_RATE=200 exec {FAKE} "$@"\n')
    slow.chmod(0o755)
    llama.run("-k", "file/pp32", "--perf-ab", f"--perf-arm-b=env.HYBRID_OPS_LLAMA_BENCH={slow}", "--perf-launches=1")
    [pair] = llama.results()["launches"]
    assert [arm["facts"]["versions"]["llama.cpp"] for arm in pair["arms"]] == ["fake (1)", "slow (1)"]
    assert pair["log_ratios"]["file/pp32"]["tokens_per_second"] == pytest.approx(math.log(0.2))


def test_what_cannot_be_measured_says_why(llama: LlamaSuite) -> None:
    llama.add_model("lost", config=None, gguf="missing.gguf", engine="llama-bench")
    llama.add_model("bare", config=None, gguf="small.gguf")
    llama.pytester._monkeypatch.setenv("FAKE_LLAMA_BENCH_FAULT", "exit")
    llama.run("-k", "tg8 or bare", "--perf-launches=1")
    reasons = {cell["case"]: cell["reason"] for cell in llama.results()["cells"] if cell["verdict"] == "failed-to-run"}
    assert "llama-bench ended with 1: llama_bench: error: failed to run prompt" in reasons["file/tg8"]
    assert "models.lost.gguf: no such file: " in reasons["lost/tg8"]
    assert "models.bare: the engine noop reads no GGUF file; set config" in reasons["bare/brief"]
