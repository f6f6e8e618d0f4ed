"""The load generator's result block has every line of the published ones, in their order."""

from __future__ import annotations

from hybrid_ops.report.serving import MeasuredLoad, knee_lines, load_table, result_block
from hybrid_ops.workloads.serving import ServingWorkload

# The block of the RTX PRO 6000 benchmark at a concurrency of 512, and what it was computed from.
PUBLISHED = """\
============ Serving Benchmark Result ============
Successful requests:                     1000
Maximum request concurrency:             512
Benchmark duration (s):                  26.81
Total input tokens:                      214316
Total generated tokens:                  92521
Request throughput (req/s):              37.30
Output token throughput (tok/s):         3451.19
Total Token throughput (tok/s):          11445.53
---------------Time to First Token----------------
Mean TTFT (ms):                          430.01
Median TTFT (ms):                        380.60
P99 TTFT (ms):                           733.46
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          75.76
Median TPOT (ms):                        69.05
P99 TPOT (ms):                           153.60
---------------Inter-token Latency----------------
Mean ITL (ms):                           47.72
Median ITL (ms):                         40.44
P99 ITL (ms):                            139.67
==================================================""".splitlines()
VALUES = {
    "completed": 1000, "failed": 0, "duration": 26.81, "total_input_tokens": 214316, "total_output_tokens": 92521,
    "request_throughput": 37.30, "output_throughput": 3451.19, "total_token_throughput": 11445.53,
    "mean_ttft_ms": 430.01, "median_ttft_ms": 380.60, "p90_ttft_ms": 1.0, "p95_ttft_ms": 1.0, "p99_ttft_ms": 733.46,
    "mean_tpot_ms": 75.76, "median_tpot_ms": 69.05, "p90_tpot_ms": 1.0, "p95_tpot_ms": 1.0, "p99_tpot_ms": 153.60,
    "mean_itl_ms": 47.72, "median_itl_ms": 40.44, "p90_itl_ms": 1.0, "p95_itl_ms": 1.0, "p99_itl_ms": 139.67,
    "mean_e2el_ms": 9.0, "median_e2el_ms": 9.0, "p90_e2el_ms": 9.0, "p95_e2el_ms": 9.0, "p99_e2el_ms": 9.0,
}  # fmt: skip


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
