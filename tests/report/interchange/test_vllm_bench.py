"""`vllm bench serve` JSON as runs and back: nothing is lost, and nothing is taken for a measurement that is none.

The files in `real/` were written by the load generator of vLLM 0.32.0 that asked its own server on a CPU: one by
`--save-result --save-detailed --metadata purpose=example`, the other by two calls with `--append-result`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hybrid_ops.errors import InputError
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults, read_results
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.interchange import Source
from hybrid_ops.report.interchange.vllm_bench import VllmBench
from hybrid_ops.report.serving import measured_loads, result_block
from hybrid_ops.workloads.serving import ServingWorkload
from tests.regression.history import nights

REAL = Path(__file__).with_name("real")
DETAILED, APPENDED = REAL / "detailed.json", REAL / "appended.json"
NEEDED = {"date": "20260131-235959", "model_id": "org/model", "duration": 2.5, "completed": 4}


def read(text: str, case: str | None = None, device: str = "h200") -> RunResults:
    return VllmBench().read(Source(Path("bench.json"), text, case, device))


def documents(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def kept(run: RunResults) -> RunResults:
    """The run as it is read from its folder."""
    with tempfile.TemporaryDirectory() as folder:
        run.write(Path(folder))
        return read_results(Path(folder))


def value_of(run: RunResults, metric: str) -> Any:
    return next(cell.value for cell in run.cells if cell.metric == metric)


@pytest.mark.parametrize("path", [DETAILED, APPENDED], ids=lambda path: path.stem)
def test_a_real_file_comes_back_as_it_was(path: Path) -> None:
    text = path.read_text()
    [part] = VllmBench().write(kept(read(text)))
    assert documents(part.text) == documents(text)


def test_a_real_file_is_a_run_of_the_suites_own_metrics() -> None:
    [document] = documents(DETAILED.read_text())
    run = read(DETAILED.read_text())
    assert {cell.case for cell in run.cells} == {"llama-tiny/chat-c2"}
    assert {cell.verdict for cell in run.cells} == {Verdict.MISSING_BASELINE}
    found = {cell.metric: cell.value for cell in run.cells}
    assert found == {name: document[name] for name in found}
    statistics = ("mean", "median", "p90", "p95", "p99")
    latencies = {f"{one}_{name}_ms" for one in statistics for name in ("ttft", "tpot", "itl", "e2el")}
    assert found.keys() == latencies | {
        "request_throughput", "output_throughput", "total_token_throughput", "completed", "total_input_tokens",
    }  # fmt: skip
    assert (run.started, run.device.device_class, run.cost) == ("2026-11-25T05:10:33", "h200", None)
    [load] = measured_loads(run)
    block = result_block(load)
    assert "Successful requests:                     4" in block
    assert f"Mean TTFT (ms):                          {document['mean_ttft_ms']:.2f}" in block


def test_appended_loads_of_one_case_are_its_launches() -> None:
    first, second = documents(APPENDED.read_text())
    run = read(APPENDED.read_text())
    assert [(launch.index, launch.seconds) for launch in run.launches] == [
        (1, first["duration"]),
        (2, second["duration"]),
    ]
    [cell] = [cell for cell in run.cells if cell.metric == "output_throughput"]
    assert cell.case == "llama-tiny/openai-c2-50rps"
    assert cell.launches == [first["output_throughput"], second["output_throughput"]]
    assert cell.value == pytest.approx((first["output_throughput"] * second["output_throughput"]) ** 0.5)
    assert "p99_e2el_ms" not in {cell.metric for cell in run.cells}, "it was not asked for"
    [load] = measured_loads(run)
    assert not any("P90" in line or "E2EL" in line for line in result_block(load))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.none() | st.integers(0, 10**6) | st.floats(0, 1e9)
DOCUMENTS = st.fixed_dictionaries(
    {
        "date": st.datetimes().map(lambda when: f"{when:%Y%m%d-%H%M%S}".zfill(15)),
        "model_id": st.sampled_from(["llama-tiny", "org/model", "/models/a/"]),
        "duration": st.floats(0, 1e6),
        "completed": st.integers(0, 1000),
    },
    optional={
        "label": st.none() | st.text(),
        "num_prompts": st.integers(1, 1000),
        "request_rate": st.just("inf") | st.floats(0.1, 100),
        "max_concurrency": st.none() | st.integers(1, 512),
        "failed": st.integers(0, 3),
        "request_goodput": NUMBERS,
        "output_throughput": NUMBERS,
        "p99_itl_ms": NUMBERS,
        "std_ttft_ms": JSON_VALUES,
        "itls": JSON_VALUES,
    },
).flatmap(lambda made: st.dictionaries(st.text(min_size=1), JSON_VALUES, max_size=4).map(lambda more: {**more, **made}))


@given(st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_any_documents_come_back_as_they_were(made: list[dict[str, Any]]) -> None:
    run = kept(read("\n".join(map(json.dumps, made)), case="model/load"))
    [part] = VllmBench().write(run)
    found = documents(part.text)
    assert found == made
    assert json.dumps(found) == json.dumps(made), "numbers keep their kind, and fields their order"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"failed": 1}, "not a measurement: 1 of 5 requests failed"),
        ({"num_prompts": 10}, "not a measurement: 6 of 10 requests failed"),
        ({"completed": 0}, "not a measurement: no request was completed"),
        ({"duration": 0.0}, "not a measurement: it took no time"),
    ],
)
def test_a_load_that_is_no_measurement_has_no_value(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    document = {**NEEDED, "output_throughput": 99.0, **fields}
    run = kept(read(json.dumps(document)))
    assert {(cell.verdict, cell.reason, cell.value) for cell in run.cells} == {(Verdict.FAILED_TO_RUN, reason, None)}
    assert {cell.metric for cell in run.cells} == {"output_throughput", "completed"}
    with History(tmp_path / "history.sqlite", create=True) as history:
        assert history.add(run) == 2
    [part] = VllmBench().write(run)
    assert documents(part.text) == [document], "it is not lost for that"


def test_a_zero_or_a_null_is_no_value() -> None:
    document = {**NEEDED, "mean_itl_ms": 0.0, "request_goodput": None, "output_throughput": 7}
    assert {cell.metric: cell.value for cell in read(json.dumps(document)).cells} == {
        "completed": 4,
        "output_throughput": 7.0,
    }


def test_the_same_file_is_the_same_run_and_another_case_or_device_is_another() -> None:
    text = json.dumps(NEEDED)
    assert read(text).run_id == read(text).run_id
    assert len({read(text).run_id, read(text, case="a/b").run_id, read(text, device="b200").run_id}) == 3


def test_cases_are_named_after_what_tells_loads_apart() -> None:
    loads = [{"label": "long chat", "max_concurrency": 8}, {"request_rate": 2.5, "backend": "vllm"}, {}]
    run = read("\n\n".join(json.dumps({**NEEDED, **load}, indent=1) for load in loads))
    assert [launch.index for launch in run.launches] == [1, 2, 3]
    assert list(run.details("loads")) == ["model/long-chat-c8", "model/vllm-2.5rps", "model/serve"]
    assert [part.name for part in VllmBench().write(run)] == list(run.details("loads"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; "),
        ("{", "not JSON: Expecting property name .*; it must be a file that vllm bench serve --save-result wrote"),
        ("[1]", "a JSON list, where an object is needed; "),
        ("{}", "date: a time such as 20260131-235959 is needed, not nothing; "),
        (json.dumps(NEEDED | {"date": 3}), "date: a time such as .* is needed, not 3; "),
        (json.dumps(NEEDED | {"model_id": None}), "model_id: the name of a model is needed, not None; "),
        (json.dumps(NEEDED | {"duration": "2 s"}), "duration: a number is needed, not '2 s'; "),
        (json.dumps(NEEDED | {"completed": True}), "completed: a number is needed, not True; "),
        (json.dumps(NEEDED | {"duration": 10**400}), "duration: a number is needed, not 1000"),
        (json.dumps(NEEDED | {"mean_ttft_ms": "?"}), "mean_ttft_ms: a number or null is needed, not '\\?'; "),
        (json.dumps(NEEDED | {"itls": [[0.1], [float("nan")]]}), "itls.1.0: nan is no JSON; mend the number or write"),
        (json.dumps(NEEDED | {"x": json.loads("[" * 60 + "]" * 60)}), "x: it is nested more than 50 levels deep; "),
        (json.dumps(NEEDED | {"model_id": "a model"}), "the case 'a model/serve' is no MODEL/LOAD; name it with "),
        (json.dumps(NEEDED) + "\nnull", "a JSON NoneType, where"),
    ],
)
def test_a_bad_file_is_one_line_with_file_field_and_mend(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^bench.json: {message}") as refused:
        read(text)
    assert "\n" not in str(refused.value)


def own_run(**fields: Any) -> RunResults:
    """A run of the suite's own: two launches of one load, one of which the engine did not survive."""
    load = ServingWorkload(
        description="d", prompt_tokens=8, generation_tokens=4, num_prompts=6, max_concurrency=2
    ).model_copy(update=fields)
    values = {"duration": 2.0, "completed": 6, "failed": 0, "output_throughput": 12.0, "p99_itl_ms": 3.5}
    document = nights.results(0, [nights.cell(12.0, case="llama-tiny/load")], loads={"llama-tiny/load": load})
    run = RunResults.model_validate(json.loads(json.dumps(document, default=lambda one: one.model_dump())))
    launch = nights.launch("llama-tiny+vllm-server", {})
    for index, own in enumerate((values, values, {}), start=1):
        seen = {"index": index, "cases": {"llama-tiny/load": {"values": own}}}
        run.launches.append(TypeAdapter(LaunchRecord).validate_python(launch | seen))
    return run


def test_a_run_of_our_own_has_the_fields_that_are_known_and_no_others() -> None:
    [part] = VllmBench().write(own_run())
    first, second = documents(part.text)
    assert first == second
    assert len(first.pop("date")) == len("20260131-235959")
    assert first == {
        "endpoint_type": "openai", "backend": "openai", "label": "load", "model_id": "llama-tiny", "num_prompts": 6,
        "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 2, "duration": 2.0, "completed": 6, "failed": 0,
        "output_throughput": 12.0, "p99_itl_ms": 3.5,
    }  # fmt: skip
    [real] = documents(DETAILED.read_text())
    assert first.keys() <= real.keys()
    back = read(part.text)
    assert value_of(back, "output_throughput") == 12.0
    assert {cell.case for cell in back.cells} == {"llama-tiny/load-c2"}


def test_an_open_loop_on_the_chat_endpoint_is_told_as_vllm_tells_it() -> None:
    [part] = VllmBench().write(own_run(endpoint="chat", max_concurrency="unlimited", request_rate=20.0, burstiness=0.3))
    document = documents(part.text)[0]
    told = {name: document[name] for name in ("backend", "request_rate", "burstiness", "max_concurrency")}
    assert told == {"backend": "openai-chat", "request_rate": 20.0, "burstiness": 0.3, "max_concurrency": None}


def test_a_run_without_a_load_has_nothing_to_export() -> None:
    with pytest.raises(InputError, match=r"^no load on a server was measured"):
        VllmBench().write(RunResults.model_validate(nights.results(0, [nights.cell(1.0)])))
