"""Agreement with the reference and between paths: values, bounds, and what no engine may be called faster with."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_ops.engines.protocol import DrawnWeights, PathSample, ScoredText, ScoreSample
from hybrid_ops.engines.reference_answers import REFERENCE_TYPES, ReferenceText
from hybrid_ops.layers import language_model
from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.measure.procedures.agreement import AgreementCheck, reference_values
from hybrid_ops.measure.values import NotAMeasurement
from hybrid_ops.regression.guard import doubt, guarded
from hybrid_ops.regression.judge import Evidence, Settings, judge_cell
from hybrid_ops.regression.judge.decision import Ground
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.workloads.agreement import Agreement

REFERENCE = ReferenceText(
    scores=[-1.0, -2.0], rounded=[-1.01, -2.03], likeliest=[{7: -0.5, 8: -0.6}, {9: -0.1, 7: -4.0}]
)


class Notes(list[str]):
    case = SimpleNamespace(spec=SimpleNamespace(engine_arguments={}, model_config=lambda: {"model_type": "llama"}))

    def note(self, text: str) -> None:
        self.append(text)


def values(scores: list[float], best: list[int]) -> tuple[dict[str, Any], Notes]:
    notes = Notes()
    sample = ScoreSample([ScoredText(scores, best)], {}, None, False, None)
    return reference_values(sample, [REFERENCE], notes), notes  # type: ignore[arg-type]


def test_the_types_with_a_reference_are_those_that_can_be_built() -> None:
    assert language_model._BUILDERS.keys() == REFERENCE_TYPES


def test_errors_are_held_against_what_rounding_costs_the_reference() -> None:
    found, notes = values([-1.05, -2.02], [7, 9])
    assert found["mean_logprob_error"] == pytest.approx(0.035)
    assert found["mean_logprob_error_bound"] == pytest.approx(2 * 0.02)
    assert found["max_logprob_error"] == pytest.approx(0.05)
    assert found["max_logprob_error_bound"] == pytest.approx(3 * 0.03)
    assert (found["top1_agreement"], found["first_disagreement"]) == (100.0, 3)
    assert notes == ["furthest from the reference: 0.05 nat at token 1 of text 1"]


def test_a_token_that_rounding_may_put_first_is_as_good_as_the_best() -> None:
    assert values([-1.0, -2.0], [8, 9])[0]["top1_agreement"] == 100.0
    wrong = values([-1.0, -2.0], [7, 7])[0]
    assert (wrong["top1_agreement"], wrong["first_disagreement"]) == (50.0, 2)
    assert wrong["first_disagreement_bound"] == 3


@pytest.mark.parametrize(
    ("direction", "current", "bounds", "ground"),
    [
        (Direction.LOWER, [0.0, 0.1], [0.2, 0.2], Ground.WITHIN_BOUND),
        (Direction.LOWER, [0.1, 0.3], [0.2, 0.2], Ground.BEYOND_BOUND),
        (Direction.HIGHER, [100.0], [100.0], Ground.WITHIN_BOUND),
        (Direction.HIGHER, [99.0], [100.0], Ground.BEYOND_BOUND),
    ],
)
def test_a_bounded_metric_needs_no_baseline(
    direction: Direction, current: list[float], bounds: list[float], ground: Ground
) -> None:
    judged = judge_cell(Evidence(Kind.EXACT, direction, current, bounds=bounds), Settings())
    assert judged.ground is ground
    assert judged.verdict is (Verdict.PASS if ground is Ground.WITHIN_BOUND else Verdict.CHANGED)
    assert f"{bounds[0]:.4g}" in judged.reason


def case() -> Any:
    workload = Agreement(description="", text_tokens=[4, 9])
    spec = SimpleNamespace(
        engine_arguments={},
        weights="seeded",
        platform="cpu",
        model_config=lambda: {"vocab_size": 50, "dtype": "bfloat16"},
    )
    return SimpleNamespace(id="m/agreement", spec=spec, workload=workload, procedure=AgreementCheck())


def iterate(error: float, cached: int | None = None) -> dict[str, Any]:
    sample = ScoreSample(
        [ScoredText([-1.0], [3])],
        {"decode": PathSample(error, 0, 1, 1)},
        cached,
        False,
        DrawnWeights(42, "cpu", []),
    )
    worker = SimpleNamespace(ask=lambda *arguments, **keywords: sample)
    iteration = SimpleNamespace(case=case(), worker=worker, patience=1.0, note=lambda text: None)
    return dict(AgreementCheck().iterate(iteration))  # type: ignore[arg-type]


def test_without_a_reference_the_paths_are_held_against_each_other() -> None:
    assert iterate(0.3) == {"decode_logprob_error": 0.3, "decode_logprob_error_bound": 0.4}


def test_scores_that_are_no_numbers_and_a_cache_without_hits_are_no_measurement() -> None:
    with pytest.raises(NotAMeasurement, match="not finite"):
        iterate(math.nan)
    with pytest.raises(NotAMeasurement, match="found nothing"):
        iterate(0.1, cached=0)


def launch(index: int, **seen: Any) -> Any:
    return SimpleNamespace(index=index, cases={"m/agreement": SimpleNamespace(**{"error": None, "values": {}} | seen)})


@pytest.mark.parametrize(
    ("launches", "verdict", "told"),
    [
        (
            [launch(1, values={"decode_logprob_error": 0.1, "decode_logprob_error_bound": 0.4})],
            Verdict.FASTER,
            "record it",
        ),
        (
            [launch(1), launch(2, values={"decode_logprob_error": 2.5, "decode_logprob_error_bound": 0.4})],
            Verdict.CHANGED,
            "faster (+50.0%), but its answers are wrong in launch 2: m/agreement decode_logprob_error is 2.5 nat, "
            "at most 0.4 is allowed.",
        ),
        (
            [launch(1, error="the engine died")],
            Verdict.FAILED_TO_RUN,
            "could not be checked (m/agreement: the engine died)",
        ),
        ([], Verdict.FASTER, "record it"),
    ],
)
def test_a_faster_cell_is_believed_only_of_an_engine_that_answers_rightly(
    launches: list[Any], verdict: Verdict, told: str
) -> None:
    evidence = Evidence(Kind.ABSOLUTE, Direction.HIGHER, [150.0] * 5, [100.0] * 5, 0.05)
    faster = judge_cell(evidence, Settings())
    assert faster.verdict is Verdict.FASTER
    judged = guarded(faster, doubt(case(), launches))
    assert judged.verdict is verdict
    assert told in judged.reason


def test_a_run_with_wrong_answers_and_a_speed_up_ends_red_with_one_sentence(pytester: pytest.Pytester) -> None:
    from tests.plugin.suite import Suite

    suite = Suite(pytester)
    path = suite.root / "workloads.yaml"
    path.write_text(
        path.read_text()
        .replace("suites:", "agreement:\n  agreement: {description: right, text_tokens: [4, 9]}\nsuites:")
        .replace("quick: [brief]", "quick: [brief, agreement]")
    )
    Path(suite.root / "config.json").write_text('{"vocab_size": 100, "dtype": "bfloat16"}')
    suite.add_model("steady", arguments={"step_ms": 4.0})
    assert suite.run("--update-baselines").ret == 0
    recorded = "".join(file.read_text() for file in suite.baseline_files("steady"))
    assert "output_throughput" in recorded and "logprob_error" not in recorded

    suite.edit_baseline("steady", "steady/brief", "output_throughput", lambda value: value / 2)
    assert suite.run().ret == 0
    assert suite.verdicts()["steady/brief-output_throughput"] == "faster"
    pytester._monkeypatch.setenv("HYBRID_OPS_FAULT", "made-up")
    # The testcases of the agreement are not even selected.
    result = suite.run("-k", "steady/brief and output_throughput")
    assert result.ret == 1
    [cell] = [cell for cell in suite.results()["cells"] if cell["metric"] == "output_throughput"]
    assert cell["verdict"] == "changed"
    assert cell["reason"] == (
        "The engine is faster (+100.0%), but its answers are wrong in launch 1: steady/agreement decode_logprob_error "
        "is 3 nat, at most 0.4 is allowed."
    )
