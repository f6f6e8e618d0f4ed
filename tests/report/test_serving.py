"""The load generator's result block has every line of the published ones, in their order."""

from __future__ import annotations

from hybrid_ops.report.published.document import read_documents
from hybrid_ops.report.published.layouts import FORMS
from hybrid_ops.report.serving import MeasuredLoad, knee_lines, load_table, result_block
from hybrid_ops.workloads.serving import ServingWorkload

# The block of the RTX PRO 6000 benchmark at a concurrency of 512, and the figures in it.
DOCUMENT = read_documents()["rtx_pro_6000_benchmarks"]
TABLE = DOCUMENT.table("serving c=512")
PUBLISHED = FORMS["serving"](TABLE)
OTHERS = {
    "failed": 0.0,
    **{f"{statistic}_{name}_ms": 1.0 for statistic in ("p90", "p95") for name in ("ttft", "tpot", "itl")},
    **{f"{statistic}_e2el_ms": 9.0 for statistic in ("mean", "median", "p90", "p95", "p99")},
}
"""What our block has and the published one has not."""
VALUES = {str(figure.facts.metric): figure.value for figure in DOCUMENT.figures(TABLE)} | OTHERS


def measured(concurrency: int, **values: float) -> MeasuredLoad:
    load = ServingWorkload(
        description="d", prompt_tokens=1, generation_tokens=1, num_prompts=1, max_concurrency=concurrency, sweep="chat"
    )
    return MeasuredLoad(f"m/chat-c{concurrency}", load.model_dump(), {**VALUES, **values}, 1)


def test_the_published_block_is_reproduced_line_by_line() -> None:
    ours = result_block(measured(512))
    assert [line for line in ours if line in PUBLISHED] == PUBLISHED
    further = [line for line in ours if line not in PUBLISHED]
    assert {line.split()[0] for line in further if ":" in line} == {"Failed", "P90", "P95", "Mean", "Median", "P99"}
    assert all("E2EL" in line for line in further if line.startswith(("Mean", "Median", "P99")))


def test_a_sweep_has_its_knee_under_the_table() -> None:
    points = [(1, 10, 100), (2, 18, 110), (4, 20, 200)]
    loads = [measured(c, request_throughput=rate, mean_e2el_ms=latency) for c, rate, latency in points]
    lines = load_table(loads)
    assert len(lines) == 1 + 3 + 1
    assert lines[-1].startswith("m/chat: the knee is at concurrency 2: 18 req/s at 110 ms")
    assert knee_lines(loads[:2]) == []
