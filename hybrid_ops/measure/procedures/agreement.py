"""Agreement: whether an engine still computes its model, against the reference model and against itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import ClassVar

from hybrid_ops.engines.protocol import SCORE, PathSample, ScoreSample
from hybrid_ops.engines.reference_answers import REFERENCE_TYPES, ReferenceText, reference_answers
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.errors import InputError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.metrics import Direction, Metric, bounded
from hybrid_ops.measure.procedures.procedure import Asked, Iteration, Procedure, workload_of
from hybrid_ops.measure.values import NotAMeasurement, Value, bound_name
from hybrid_ops.workloads.agreement import Agreement
from hybrid_ops.workloads.base import Definition

FACTORS = (2.0, 3.0)
"""How many times what rounding costs the reference itself is allowed: of the mean error, and of the largest one or
between two paths. Sound engines showed up to 1.6 and 2.3 (`docs/accuracy.md`)."""
COARSE_FACTORS = {"mamba": (5.0, 12.0), "falcon_mamba": (14.0, 48.0)}
"""Of the model types that vLLM rounds more than their reference, in types narrower than float32, where sound engines
showed 3.1 and 8.3, and 8.2 and 24. In float32 they need no more than the others."""
BOUNDS_WITHOUT_REFERENCE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.4}
"""Between two paths of a model that has no reference, by data type: the loosest that a model with one has."""

REFERENCE_METRICS = (
    bounded("mean_logprob_error", "nat", Direction.LOWER, "Mean difference of a token's score from the reference's"),
    bounded("max_logprob_error", "nat", Direction.LOWER, "Largest difference of a token's score from the reference's"),
    bounded("top1_agreement", "%", Direction.HIGHER, "Tokens at which the engine's first choice is as good as any"),
    bounded("first_disagreement", "tokens", Direction.HIGHER, "Tokens before the first one at which it is not"),
)
"""Against the reference model with the same weights. As good as any is what rounding may put first."""
PATHS = {
    "decode": "decoding from one prefill over the same tokens",
    "chunked": "a prefill in parts from a whole one",
    "batched": "a batch of mixed lengths from each text alone",
    "preempted": "requests that lost their cache midway from undisturbed ones",
    "prefix_cache": "a hit in the prefix cache from none",
}
PATH_METRICS = {
    path: bounded(f"{path}_logprob_error", "nat", Direction.LOWER, f"Largest difference of a score: {what}")
    for path, what in PATHS.items()
}


class AgreementCheck(Procedure):
    """Texts scored by the engine: held against the reference model, and each path against the plainest."""

    name: ClassVar[str] = "agreement"
    section: ClassVar[str] = "agreement"
    definition_type: ClassVar[type[Definition]] = Agreement
    operations: ClassVar[frozenset[str]] = frozenset({SCORE.name})
    metrics: ClassVar[tuple[Metric, ...]] = (*REFERENCE_METRICS, *PATH_METRICS.values())
    guards: ClassVar[bool] = True

    def cases(self, asked: Asked) -> list[Case]:
        assert isinstance(asked.definition, Agreement)
        return [Case(asked.spec(), asked.name, asked.definition, self)]

    def metrics_of(self, case: Case) -> tuple[Metric, ...]:
        has_cache = bool(case.spec.engine_arguments.get("enable_prefix_caching"))
        paths = [metric for path, metric in PATH_METRICS.items() if path != "prefix_cache" or has_cache]
        return (*(REFERENCE_METRICS if has_reference(case.spec) else ()), *paths)

    def iterate(self, iteration: Iteration) -> Mapping[str, Value]:
        """The differences and their bounds.

        Raises NotAMeasurement for scores that are no numbers, a prefix cache that finds nothing, and a reference that
        has other weights.
        """
        case, workload = iteration.case, workload_of(iteration.case, Agreement)
        config = case.spec.model_config()
        texts = workload.texts(config.get("text_config", config)["vocab_size"])
        sample = iteration.worker.ask(
            SCORE,
            iteration.patience,
            texts=texts,
            generation_tokens=workload.generation_tokens,
            chunk_tokens=workload.chunk_tokens,
        )
        _refuse_unscored(sample)
        reference = None
        if has_reference(case.spec) and sample.weights is not None and sample.weights.device == "cpu":
            try:
                reference = reference_answers(config, sample.weights, texts, sample.are_logits)
            except InputError as error:
                raise NotAMeasurement(str(error)) from None
        values = {} if reference is None else reference_values(sample, reference, iteration)
        return {**values, **_path_values(sample, reference, case.spec, iteration)}


def has_reference(spec: EngineSpec) -> bool:
    """Whether the reference model can have the weights of an engine.

    It can if they were drawn, if it knows the model, and if every rank has a part of each layer.
    """
    is_whole = spec.engine_arguments.get("pipeline_parallel_size", 1) == 1
    is_known = spec.model_config().get("model_type") in REFERENCE_TYPES
    return spec.weights == "seeded" and spec.platform == "cpu" and is_whole and is_known


def _refuse_unscored(sample: ScoreSample) -> None:
    scores = chain.from_iterable(text.scores for text in sample.texts)
    differences = (path.error for path in sample.paths.values())
    if not all(map(math.isfinite, chain(scores, differences))):
        raise NotAMeasurement("the engine's log-probabilities are not finite numbers")
    if sample.cached_tokens == 0:
        raise NotAMeasurement("the prefix cache found nothing of a text that had just been computed")


@dataclass(frozen=True)
class Rounding:
    """What rounding costs the reference itself: the difference between its own type and a wider one."""

    mean: float
    largest: float

    @classmethod
    def of(cls, reference: Sequence[ReferenceText]) -> Rounding:
        found = [abs(a - b) for text in reference for a, b in zip(text.scores, text.rounded)]
        return cls(fmean(found), max(found))


def allowed_errors(reference: Sequence[ReferenceText], spec: EngineSpec) -> Rounding:
    """The mean and the largest error that are allowed of an engine."""
    narrow = _dtype(spec) != "float32"
    mean, largest = COARSE_FACTORS.get(str(spec.model_config().get("model_type")), FACTORS) if narrow else FACTORS
    rounding = Rounding.of(reference)
    return Rounding(mean * rounding.mean, largest * rounding.largest)


def reference_values(sample: ScoreSample, reference: Sequence[ReferenceText], iteration: Iteration) -> dict[str, Value]:
    """The metrics against the reference, each with its bound. The worst place is noted."""
    allowed = allowed_errors(reference, iteration.case.spec)
    errors = [
        (abs(own - theirs), text, place)
        for text, (engine, known) in enumerate(zip(sample.texts, reference))
        for place, (own, theirs) in enumerate(zip(engine.scores, known.scores), start=1)
    ]
    disagreeing = [
        place
        for engine, known in zip(sample.texts, reference)
        for place, (best, likeliest) in enumerate(zip(engine.best, known.likeliest), start=1)
        if max(likeliest.values()) - likeliest.get(best, min(likeliest.values())) > 2 * allowed.largest
    ]
    worst, text, place = max(errors)
    iteration.note(f"furthest from the reference: {worst:.3g} nat at token {place} of text {text + 1}")
    longest = max(len(engine.scores) for engine in sample.texts) + 1
    return {
        **_with_bound("mean_logprob_error", fmean(error for error, _, _ in errors), allowed.mean),
        **_with_bound("max_logprob_error", worst, allowed.largest),
        **_with_bound("top1_agreement", 100 * (1 - len(disagreeing) / len(errors)), 100.0),
        **_with_bound("first_disagreement", min(disagreeing, default=longest), longest),
    }


def _path_values(
    sample: ScoreSample, reference: Sequence[ReferenceText] | None, spec: EngineSpec, iteration: Iteration
) -> dict[str, Value]:
    if reference is not None:
        bound = allowed_errors(reference, spec).largest
    else:
        bound = BOUNDS_WITHOUT_REFERENCE.get(_dtype(spec), max(BOUNDS_WITHOUT_REFERENCE.values()))
    values: dict[str, Value] = {}
    for path, seen in sample.paths.items():
        values |= _with_bound(PATH_METRICS[path].name, seen.error, bound)
        if seen.error > bound:
            iteration.note(_place(path, seen))
    return values


def _dtype(spec: EngineSpec) -> str:
    """The data type of the engine's weights, as its arguments or the model's configuration name it."""
    named = spec.engine_arguments.get("dtype", "auto")
    return str(spec.model_config().get("dtype")) if named == "auto" else str(named)


def _place(path: str, seen: PathSample) -> str:
    return f"{path}: {seen.error:.3g} nat at token {seen.position} of text {seen.text + 1}"


def _with_bound(name: str, value: float, bound: float) -> dict[str, Value]:
    return {name: value, bound_name(name): bound}
