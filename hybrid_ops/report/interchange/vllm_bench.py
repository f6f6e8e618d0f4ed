"""The JSON of `vllm bench serve --save-result`, with or without `--save-detailed`: what vLLM's own tools read and plot.

A file holds one JSON object, or several one below the other where `--append-result` added to it. Each object is one
load: one launch of a case here. The suite's metrics of a load have the names that vLLM gave them, so values go over as
they are. Each object is kept whole in the run's details, with what the suite has no metric for: `std_ttft_ms`, the
lists of `--save-detailed`, metadata of the user's own. From there it is written again.

The fields are those that `vllm/benchmarks/serve.py` of vLLM 0.32.0 writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import geometric_mean
from typing import ClassVar

from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import Kind, Metric
from hybrid_ops.measure.procedures.serving import COUNTS, SERVING_METRICS, TOTAL_OUTPUT_TOKENS, UNJUDGED, Serving
from hybrid_ops.measure.records import CaseRecord, LaunchRecord
from hybrid_ops.measure.values import Value
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import DeviceResult, RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.interchange.formats import Part, Reader, Source, Writer
from hybrid_ops.report.interchange.json_objects import Document, is_number, json_objects
from hybrid_ops.workloads.base import definition_hash
from hybrid_ops.workloads.serving import ENDPOINTS, UNLIMITED

DETAILS_KEY = "vllm_bench"
"""Where the run's details have the original documents, by case."""
LOADS_KEY = Serving.details_key or ""
DATE = "%Y%m%d-%H%M%S"
"""The time of the machine that made the file; nothing in it tells the zone."""
LOAD_FIELDS = ("model_id", "tokenizer_id", "backend", "num_prompts", "request_rate", "burstiness", "max_concurrency")
"""What defines a load, as far as the file tells."""
METRICS = {
    metric.name: metric
    for metric in SERVING_METRICS
    if metric.kind is not Kind.RATIO and metric is not TOTAL_OUTPUT_TOKENS
}
"""The metrics that become cells. The number of generated tokens may be the model's choice: the file does not say."""
MEND = "it must be a file that vllm bench serve --save-result wrote"
CASE = re.compile(r"[^\s/]+/\S+")


class VllmBench(Writer, Reader):
    """One file a case, with one JSON object a launch."""

    name: ClassVar[str] = "vllm-bench"
    parts_are: ClassVar[str] = "a case"

    def write(self, run: RunResults) -> Sequence[Part]:
        kept = run.details(DETAILS_KEY)
        parts = []
        for case, load in run.details(LOADS_KEY).items():
            documents = kept[case] if case in kept else [_document(case, load, one) for one in run.records_of(case)]
            if documents:
                parts.append(Part(case, "\n".join(json.dumps(document) for document in documents) + "\n"))
        if not parts:
            raise InputError("no load on a server was measured; the suite serving has some")
        return parts

    def read(self, source: Source) -> RunResults:
        by_case: dict[str, list[Document]] = {}
        for document in json_objects(source, MEND):
            _check(document, source)
            by_case.setdefault(source.case or _case_of(document), []).append(document)
        for case in by_case:
            if not CASE.fullmatch(case):
                raise InputError(f"{source.path}: the case {case!r} is no MODEL/LOAD; name it with --case")
        return _run(source, by_case)


# --- writing ----------------------------------------------------------------------------------------------------------


def _document(case: str, load: Document, launch: LaunchRecord) -> Document:
    """What is known of one launch of our own. What only the load generator knew has no field, rather than a zero."""
    values = launch.cases[case].values
    model, _, label = case.partition("/")
    server = launch.facts.server if launch.facts is not None else None
    backend = ENDPOINTS[load["endpoint"]][0]
    rate, concurrency = load["request_rate"], load["max_concurrency"]
    return {
        "date": datetime.fromisoformat(launch.started).astimezone().strftime(DATE),
        "endpoint_type": backend,
        "backend": backend,
        "label": label,
        "model_id": model if server is None else server.model,
        "num_prompts": load["num_prompts"],
        "request_rate": "inf" if rate == UNLIMITED else rate,
        "burstiness": load["burstiness"],
        "max_concurrency": None if concurrency == UNLIMITED else concurrency,
        **{name: value for name, value in values.items() if name in METRICS or name in UNJUDGED},
    }


# --- reading ----------------------------------------------------------------------------------------------------------


def _check(document: Document, source: Source) -> None:
    """Raise InputError for a document whose needed fields are not there or are of another kind."""

    def refuse(field: str, wanted: str) -> InputError:
        given = repr(document[field]) if field in document else "nothing"
        return InputError(f"{source.path}: {field}: {wanted} is needed, not {given}; {MEND}")

    try:
        datetime.strptime(document.get("date", ""), DATE)
    except (TypeError, ValueError):
        raise refuse("date", "a time such as 20260131-235959") from None
    if not isinstance(document.get("model_id"), str) or not document["model_id"]:
        raise refuse("model_id", "the name of a model")
    for field in ("duration", "completed"):
        if not is_number(document.get(field)):
            raise refuse(field, "a number")
    for field in (*METRICS, *UNJUDGED):
        if document.get(field) is not None and not is_number(document[field]):
            raise refuse(field, "a number or null")


def _case_of(document: Document) -> str:
    """`falcon-h1-7b/chat-c8`: the model without its owner, and the label or backend with what limits the load."""
    words = [str(document.get("label") or document.get("backend") or "serve")]
    if document.get("max_concurrency") is not None:
        words.append(f"c{document['max_concurrency']}")
    if document.get("request_rate") not in (None, "inf"):
        rate = document["request_rate"]
        words.append(f"{rate:g}rps" if is_number(rate) else f"{rate}rps")
    return "/".join([document["model_id"].rstrip("/").rpartition("/")[2], "-".join("-".join(words).split())])


def _run(source: Source, by_case: dict[str, list[Document]]) -> RunResults:
    documents = [document for group in by_case.values() for document in group]
    started = min(_started(document) for document in documents)
    content = json.dumps([by_case, source.device_class], sort_keys=True)
    run = RunResults(
        run_id=f"{started.replace('-', '').replace(':', '')}-{definition_hash(content)}",
        command=f"hybrid-perf import {source.path}",
        started=started,
        seconds=sum(document["duration"] for document in documents),
        device=DeviceResult.model_validate(
            {"platform": "server", "name": source.device_class, "class": source.device_class}
            | dict.fromkeys(("uuid", "cores", "memory_bytes", "kernel"))
        ),
        versions={},
        cells=[cell for case, group in by_case.items() for cell in _cells(source, case, group)],
        launches=[
            _launch(source, case, index, document)
            for index, (case, document) in enumerate(
                ((case, document) for case, group in by_case.items() for document in group), start=1
            )
        ],
    )
    run.add_details({LOADS_KEY: {case: _load(group[0]) for case, group in by_case.items()}, DETAILS_KEY: dict(by_case)})
    return run


def _started(document: Document) -> str:
    return datetime.strptime(document["date"], DATE).isoformat()


def _load(document: Document) -> Document:
    """What the serving report reads of a load, in the suite's own terms."""
    rate, concurrency = document.get("request_rate"), document.get("max_concurrency")
    return {
        "description": f"vllm bench serve, {document.get('label') or document.get('backend') or 'no label'}",
        "num_prompts": document.get("num_prompts"),
        "max_concurrency": UNLIMITED if concurrency is None else concurrency,
        "request_rate": rate if is_number(rate) else UNLIMITED,
        "burstiness": document.get("burstiness"),
        "sweep": None,
    }


def _launch(source: Source, case: str, index: int, document: Document) -> LaunchRecord:
    problem = _problem(document)
    values = {} if problem else _values(document)
    return LaunchRecord(
        launch_name=case.partition("/")[0],
        index=index,
        started=_started(document),
        seconds=document["duration"],
        log=str(source.path),
        device={"platform": "server"},
        arguments={},
        environment={},
        cases={case: CaseRecord(values=values, iterations=[values] if values else [], error=problem)},
    )


def _problem(document: Document) -> str | None:
    """Why a load is no measurement: what is left of an incomplete one would look faster for it. None if it is one."""
    completed = document["completed"]
    failed = document.get("failed")
    if failed is None and is_number(document.get("num_prompts")):
        failed = document["num_prompts"] - completed  # of releases that did not count them
    if failed:
        return f"{failed} of {completed + failed} requests failed"
    if completed <= 0:
        return "no request was completed"
    return None if document["duration"] > 0 else "it took no time"


def _values(document: Document) -> dict[str, Value]:
    """The document's values under the suite's names. Zero is no rate and no time: a load of one token has no ITL."""
    found: dict[str, Value] = {}
    for name in (*METRICS, *UNJUDGED):
        value = document.get(name)
        if value is not None and (value > 0 or name == "failed"):
            found[name] = int(value) if name in COUNTS else float(value)
    return found


def _cells(source: Source, case: str, documents: Sequence[Document]) -> Iterator[CellResult]:
    """The cells of a case: its metrics that the documents have. One that is no measurement spoils all."""
    problem = next((problem for document in documents if (problem := _problem(document)) is not None), None)
    definition = definition_hash(json.dumps([documents[0].get(name) for name in LOAD_FIELDS]))
    measured = [_values(document) for document in documents]
    for metric in METRICS.values():
        told = any(document.get(metric.name) is not None for document in documents)
        values = [values[metric.name] for values in measured if metric.name in values] if problem is None else []
        differs = metric.kind is Kind.EXACT and len(set(values)) > 1
        if (values and not differs) or (told and problem is not None):
            yield _cell(source, case, metric, values, problem, definition)


def _cell(
    source: Source, case: str, metric: Metric, values: list[Value], problem: str | None, definition: str
) -> CellResult:
    value = None
    if values:
        value = values[0] if len(set(values)) == 1 else geometric_mean([float(one) for one in values])
    return CellResult(
        cell=f"{case}-{metric.name}",
        case=case,
        metric=metric.name,
        unit=metric.unit,
        kind=metric.kind.value,
        direction=metric.direction.value,
        verdict=Verdict.MISSING_BASELINE if problem is None else Verdict.FAILED_TO_RUN,
        reason="Imported: it was compared with nothing." if problem is None else f"not a measurement: {problem}",
        decided=True,
        value=value,
        baseline=None,
        tolerance=None,
        change=None,
        interval=None,
        p_value=None,
        mde=None,
        launches=values,
        baseline_launches=[],
        baseline_file=None,
        definition=definition,
        log=str(source.path),
    )
