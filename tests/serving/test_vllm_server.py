"""A real `vllm serve` under its own load generator: one launch, several loads."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from hybrid_ops.engines.devices import cpu
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_server import VllmServer
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.launch import Launch, Terms, run_launch
from hybrid_ops.measure.metrics import Kind
from hybrid_ops.measure.procedures.serving import Serving
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.models.zoo import load_zoo
from hybrid_ops.workloads.conversations import SHIPPED_CONVERSATIONS
from hybrid_ops.workloads.serving import ServingWorkload
from tests.serving.conftest import processes_under

pytestmark = pytest.mark.long

CLOSED = ServingWorkload(
    description="closed loop",
    prompt_tokens=64,
    generation_tokens=16,
    prefix_tokens=32,
    num_prompts=12,
    max_concurrency=4,
    goodput={"ttft": 1e6, "e2el": 1e6},
    timed_iterations=2,
)
LOADS = {
    "closed": CLOSED,
    "impossible": CLOSED.model_copy(update={"goodput": {"ttft": 1e-3}, "timed_iterations": 1}),
    "bursty": CLOSED.model_copy(
        update={"max_concurrency": "unlimited", "request_rate": 20.0, "burstiness": 0.3, "goodput": {}}
    ),
    "chat": ServingWorkload(
        description="conversations from a file that was cut off",
        dataset="sharegpt",
        dataset_file="cut.json",
        num_prompts=8,
        endpoint="chat",
        timed_iterations=1,
    ),
}


SPEC = EngineSpec("llama-tiny", load_zoo()["llama-tiny"], "cpu", VllmServer())


def case(name: str, folder: Path | None = None) -> Case:
    return Case(SPEC, name, LOADS[name], Serving(), folder)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> LaunchRecord:
    folder = tmp_path_factory.mktemp("launch")
    whole = SHIPPED_CONVERSATIONS.read_bytes()
    (folder / "cut.json").write_bytes(whole[: len(whole) // 2])
    cases = [case(name, folder) for name in LOADS]
    record = run_launch(Launch(cases[0].spec, cases, 1, cpu(), folder / "1"), Terms(deadline_seconds=240))
    assert record.error is None, record.error
    assert processes_under(folder) == []
    return record


def values(launch: LaunchRecord, name: str) -> dict:
    seen = launch.cases[f"llama-tiny/{name}"]
    assert seen.error is None, seen.error
    return seen.values


@pytest.mark.parametrize("name", LOADS)
def test_every_metric_of_a_load_has_a_value(launch: LaunchRecord, name: str) -> None:
    wanted = {metric.name for metric in Serving().metrics_of(case(name)) if metric.kind is not Kind.RATIO}
    seen = launch.cases[f"llama-tiny/{name}"]
    assert wanted == (values(launch, name).keys() | seen.absent.keys()) & wanted


def test_counts_are_those_of_the_load(launch: LaunchRecord) -> None:
    closed = values(launch, "closed")
    assert (closed["completed"], closed["failed"]) == (12, 0)
    assert closed["total_input_tokens"] == 12 * (64 + 32)
    assert closed["total_output_tokens"] == 12 * 16


def test_rates_and_times_hang_together(launch: LaunchRecord) -> None:
    # Each iteration by itself: the medians of two need not come from the same one.
    for closed in launch.cases["llama-tiny/closed"].iterations:
        assert closed["request_throughput"] == pytest.approx(12 / closed["duration"])
        assert closed["output_throughput"] == pytest.approx(12 * 16 / closed["duration"])
        assert closed["total_token_throughput"] == pytest.approx(12 * 112 / closed["duration"])
        assert closed["mean_e2el_ms"] == pytest.approx(closed["mean_ttft_ms"] + 15 * closed["mean_tpot_ms"])
        # Little's law: 4 requests are in flight but for the ends.
        assert closed["request_throughput"] * closed["mean_e2el_ms"] / 1e3 == pytest.approx(4, rel=0.35)
        for name in ("ttft", "tpot", "itl", "e2el"):
            order = [closed[f"{statistic}_{name}_ms"] for statistic in ("median", "p90", "p95", "p99")]
            assert order == sorted(order)


def test_goodput_counts_what_meets_the_objective(launch: LaunchRecord) -> None:
    closed = values(launch, "closed")
    assert closed["request_goodput"] == closed["request_throughput"]
    impossible = launch.cases["llama-tiny/impossible"]
    assert impossible.absent == {"request_goodput": "no request met the service-level objective"}
    assert "request_goodput" not in impossible.values


def test_an_open_loop_takes_as_long_as_its_arrivals(launch: LaunchRecord) -> None:
    assert values(launch, "bursty")["duration"] >= 0.8 * 12 / 20


def test_what_was_cut_off_a_data_file_is_noted(launch: LaunchRecord) -> None:
    [note] = launch.cases["llama-tiny/chat"].notes
    assert note.startswith("cut.json: ")
    assert note.endswith("conversations; dropped 1: 1 cut off at the end of the file")
    assert values(launch, "chat")["completed"] == 8


def test_the_record_names_the_server_and_survives_json(launch: LaunchRecord) -> None:
    assert launch.facts is not None and launch.facts.server is not None
    assert launch.facts.server.model == "llama-tiny"
    assert launch.facts.device.platform == "cpu"
    assert launch.versions["vllm"] == importlib.metadata.version("vllm"), "it runs in this environment"
    assert launch.reference_kernels == []
    assert "skip_tokenizer_init" not in launch.arguments
    adapter = TypeAdapter(LaunchRecord)
    assert adapter.validate_json(adapter.dump_json(launch, by_alias=True)) == launch
    assert "Application startup complete" in (Path(launch.log).parent / "server.log").read_text()
