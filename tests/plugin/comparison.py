"""A comparison of three models on the no-op engine, which says how fast each is and how much of a cache it keeps."""

from __future__ import annotations

from typing import Any

import pytest

from tests.plugin.suite import Suite

WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
comparisons:
  three:
    description: small
    models: {toy: {full: toy-full, sliding: toy-sliding, hybrid: toy-hybrid}}
    prompt_tokens: [32, 64, 128]
    generation_tokens: 8
    num_prompts: 6
    timed_iterations: 3
    reduced: {cpu: {num_prompts: 2, warmup_iterations: 1}}
suites:
  quick: [three]
  other: [brief]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_comparison(comparison_cell):
    check(comparison_cell)

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)
"""
CONFIG = '{"vocab_size": 100, "max_position_embeddings": 68, "sliding_window": WINDOW}'
STEP_MS = {"full": 2.0, "sliding": 1.0, "hybrid": 1.0}


class ComparisonSuite:
    """The project folder of a comparison; all lengths are halved, because 128 + 8 tokens are too many for it."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.root = suite.root
        suite.pytester.makepyfile(test_suite=TEST_FILE)
        (self.root / "workloads.yaml").write_text(WORKLOADS)
        for attention, step_ms in STEP_MS.items():
            self.set_engine(attention, step_ms=step_ms, **({} if attention == "full" else {"window": 16}))

    def set_engine(self, attention: str, **arguments: Any) -> None:
        (self.root / f"{attention}.json").write_text(CONFIG.replace("WINDOW", "null" if attention == "full" else "16"))
        self.suite.add_model(f"toy-{attention}", config=f"{attention}.json", arguments=arguments)

    def run(self, *arguments: str) -> pytest.RunResult:
        options = self.suite.arguments[: self.suite.arguments.index("-k")]
        return self.suite.pytest(*options, "-k", "toy", *arguments)

    def values(self) -> dict[str, Any]:
        return {cell["cell"]: cell["value"] for cell in self.suite.results()["cells"]}

    def outcomes(self) -> dict[str, dict[int, str]]:
        """What became of each claim, by its ratio and the input length."""
        found: dict[str, dict[int, str]] = {}
        for claim in self.suite.results()["claims"]:
            found.setdefault(claim["metric"], {})[claim["prompt_tokens"]] = claim["outcome"]
        return found
