"""llama-bench: its own tests, and closed batches of which it tells how long the whole took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, ClassVar

from hybrid_ops.engines.protocol import LLAMA_BENCH, LlamaBenchSample
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import (
    MODEL_BYTES,
    OUTPUT_THROUGHPUT,
    OUTPUT_TOKENS,
    Metric,
    Scope,
    exact,
    rate,
)
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, Summary, workload_of
from hybrid_ops.measure.values import NotAMeasurement, Value, refuse_unmeasured
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.batch import ClosedBatch
from hybrid_ops.workloads.llama_bench import LlamaBenchTest
from hybrid_ops.workloads.sampling import Sampling

TOKENS_PER_SECOND = rate("tokens_per_second", "Tokens of the test over its time (llama-bench's t/s)")
MODEL_PARAMETERS = exact("model_parameters", "", Scope.ANY, "Parameters of the model")
TOLD = ("model_type", "backends", "build_commit", "flash_attn")
"""What each sample says of itself in words, for the table."""
COUNTED = ("build_number", "n_threads", "n_batch", "n_ubatch", "n_gpu_layers")
"""What it says in numbers."""


class LlamaBenchTests(Procedure):
    """The tests of llama-bench: pp, tg and pg at a depth. An iteration is one process, with samples of its own."""

    name: ClassVar[str] = "llama-bench"
    section: ClassVar[str] = "llama_bench"
    definition_type: ClassVar[type[Definition]] = LlamaBenchTest
    operations: ClassVar[frozenset[str]] = frozenset({LLAMA_BENCH.name})
    metrics: ClassVar[tuple[Metric, ...]] = (TOKENS_PER_SECOND, MODEL_BYTES, MODEL_PARAMETERS)
    pace: ClassVar[str | None] = TOKENS_PER_SECOND.name
    tokens_value: ClassVar[str | None] = "tokens"
    headline: ClassVar[tuple[str, ...]] = (TOKENS_PER_SECOND.name,)
    is_brief: ClassVar[bool] = True
    details_key: ClassVar[str | None] = "llama_bench"

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, LlamaBenchTest)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        workload = workload_of(iteration.case, LlamaBenchTest)
        asked = (workload.prompt_tokens, workload.generation_tokens, workload.depth)
        sample = _ask(iteration, *asked, workload.repetitions)
        tokens = sample.n_prompt + sample.n_gen
        rates = [1e9 * tokens / time for time in sample.samples_ns]
        values: dict[str, Value] = {
            TOKENS_PER_SECOND.name: mean(rates),
            "repetitions": len(rates),
            "tokens": tokens * len(rates),
            MODEL_BYTES.name: sample.model_size,
            MODEL_PARAMETERS.name: sample.model_n_params,
        }
        refuse_unmeasured(values)
        values["deviation"] = stdev(rates) if len(rates) > 1 else 0.0
        return values | {name: getattr(sample, name) for name in (*TOLD, *COUNTED)}

    def summarize(self, case: Case, iterations: Sequence[Mapping[str, Value]]) -> Summary:
        """The medians of what is a number; the words stay with the iterations."""
        return super().summarize(case, [{k: v for k, v in one.items() if k not in TOLD} for one in iterations])

    def details(self, case: Case) -> dict[str, Any] | None:
        return {"test": workload_of(case, LlamaBenchTest).label, "engine": case.spec.name}


class WholeGenerations(Procedure):
    """A closed batch on an engine that tells how long the whole took, and neither tokens nor their times.

    llama-bench draws the prompt and the tokens that follow by itself, one sequence at a time: what it can be asked is
    one prompt, greedily continued.
    """

    name: ClassVar[str] = "whole-generation"
    section: ClassVar[str] = "workloads"
    definition_type: ClassVar[type[Definition]] = ClosedBatch
    operations: ClassVar[frozenset[str]] = frozenset({LLAMA_BENCH.name})
    metrics: ClassVar[tuple[Metric, ...]] = (OUTPUT_THROUGHPUT, OUTPUT_TOKENS)
    fixture: ClassVar[str] = "generation_cell"
    pace: ClassVar[str | None] = OUTPUT_THROUGHPUT.name
    tokens_value: ClassVar[str | None] = OUTPUT_TOKENS.name
    headline: ClassVar[tuple[str, ...]] = (OUTPUT_THROUGHPUT.name,)
    is_brief: ClassVar[bool] = True
    details_key: ClassVar[str | None] = "two_engines"

    def cases(self, asked: Asked) -> list[Case]:
        batch = asked.definition
        assert isinstance(batch, ClosedBatch)
        is_plain = batch.num_prompts == batch.samples == 1 and batch.sampling == Sampling()
        return [Case(asked.spec(), asked.name, batch, self)] if is_plain and batch.given_prompts is None else []

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        batch = workload_of(iteration.case, ClosedBatch)
        sample = _ask(iteration, batch.prompt_tokens, batch.generation_tokens, 0, 1)
        values: dict[str, Value] = {
            OUTPUT_THROUGHPUT.name: 1e9 * sample.n_gen / sample.samples_ns[0],
            OUTPUT_TOKENS.name: sample.n_gen,
        }
        refuse_unmeasured(values)
        return values

    def details(self, case: Case) -> dict[str, Any] | None:
        """The same workload in the engine that the model has by itself."""
        spec = case.spec
        own = f"{spec.model}/{case.workload_name}"
        return {"engine": spec.engine.name, "own": own, "own_engine": spec.entry.engine}


def _ask(iteration: Iteration, prompt: int, generation: int, depth: int, repetitions: int) -> LlamaBenchSample:
    """One test. Raises NotAMeasurement where llama-bench ran another one, or not every repetition."""
    sample = iteration.worker.ask(
        LLAMA_BENCH,
        iteration.patience,
        prompt_tokens=prompt,
        generation_tokens=generation,
        depth=depth,
        repetitions=repetitions,
    )
    if (sample.n_prompt, sample.n_gen, sample.n_depth) != (prompt, generation, depth):
        ran = f"-p {sample.n_prompt} -n {sample.n_gen} -d {sample.n_depth}"
        raise NotAMeasurement(f"llama-bench ran {ran}, not -p {prompt} -n {generation} -d {depth}")
    if len(sample.samples_ns) != repetitions or min(sample.samples_ns) <= 0:
        raise NotAMeasurement(f"llama-bench gave the times {sample.samples_ns} for {repetitions} repetitions")
    # Without the load and the warm-up, which are in the same process.
    iteration.timed.extend((start, start + time / 1e9) for start, time in zip(sample.starts, sample.samples_ns))
    return sample
