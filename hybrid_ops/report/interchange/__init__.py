"""Files of other programs: the formats that runs are written in and read from. docs/interchange.md."""

from __future__ import annotations

from hybrid_ops.report.interchange.formats import Part, Reader, Source, Writer
from hybrid_ops.report.interchange.github_action_benchmark import GithubActionBenchmark
from hybrid_ops.report.interchange.openmetrics import OpenMetrics
from hybrid_ops.report.interchange.vllm_bench import VllmBench

__all__ = ["READERS", "WRITERS", "Part", "Reader", "Source", "Writer"]

WRITERS: tuple[Writer, ...] = (VllmBench(), GithubActionBenchmark(), OpenMetrics())
READERS: tuple[Reader, ...] = (VllmBench(),)
