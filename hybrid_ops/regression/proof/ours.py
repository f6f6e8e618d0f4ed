"""Our judge on simulated runs, and question by question how it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.models.sizes import format_table
from hybrid_ops.regression.judge import Evidence, Judgement, Settings, judge_run
from hybrid_ops.regression.proof.traces import MODELS, Array, NoiseModel, Trace, trace
from hybrid_ops.regression.statistics import Noise
from hybrid_ops.regression.verdicts import Verdict

TOLERANCE = 0.025
"""Half of the change that is to be found, as `docs/judging.md` advises."""
SEED = 20261121


def judged(run: Trace, model: NoiseModel, paired: bool, session: Noise | None = None) -> tuple[list[Judgement], Array]:
    """The judge on one run: an engine is launched again, with all its cells, while one of them is undecided.

    `session` is what the judge believes of the noise between sessions, by default the truth.
    """
    settings = Settings.for_platform(model.platform)
    new = Trace.medians(run.after)
    pairs = np.log(new / Trace.medians(run.before)) if run.interleaved is None else run.interleaved
    evidence = [
        Evidence(
            Kind.ABSOLUTE,
            Direction.LOWER,
            baseline=values,
            tolerance=TOLERANCE,
            session_noise=session or Noise(model.session, 10.0),
        )
        for values in Trace.medians(run.baseline).tolist()
    ]
    launches = np.ones(run.engines, dtype=int)
    per_engine = len(evidence) // run.engines
    while True:
        counts = np.repeat(launches, per_engine)
        cells = [
            replace(cell, pairs=pairs[index, :count].tolist())
            if paired
            else replace(cell, current=new[index, :count].tolist())
            for index, (cell, count) in enumerate(zip(evidence, counts))
        ]
        judgements = judge_run(cells, settings, budget_left=True)
        again = np.array([not judgement.decided for judgement in judgements]).reshape(run.engines, per_engine)
        if not again.any():
            return judgements, counts * (2.0 if paired else 1.0)
        launches += again.any(axis=1)


@dataclass(frozen=True)
class Question:
    """One line of our own operating characteristics: stored baseline, normal launches."""

    label: str
    change: float
    model: NoiseModel = MODELS[0]
    slowed_engines: int = 4
    slowed_cells: int = 1
    stored: int = 8
    session: Noise | None = None


QUESTIONS = (
    *(
        Question(f"one cell of each engine {change:.1%} slower", change)
        for change in (0.0125, 0.025, 0.0375, 0.05, 0.075)
    ),
    Question("one cell of one engine 5.0% slower", 0.05, slowed_engines=1),
    Question("all cells 5.0% slower", 0.05, slowed_cells=12),
    Question("one of each 5.0% slower, 5 baseline launches", 0.05, stored=5),
    Question("one of each 5.0% slower, 3 baseline launches", 0.05, stored=3),
    Question("one of each 5.0% slower, launch noise 2 %", 0.05, replace(MODELS[0], launch=0.0187)),
    Question("unchanged, launch noise 2 %", 0.0, replace(MODELS[0], launch=0.0187)),
    Question("unchanged, 3 baseline launches", 0.0, stored=3),
    *(
        Question(
            f"unchanged, sessions of {noise:.0%} believed 0.3%",
            0.0,
            replace(MODELS[0], session=noise),
            session=Noise(0.003, 3),
        )
        for noise in (0.01, 0.03)
    ),
)


def characteristics(runs: int) -> str:
    """A Markdown table of how our judge answers: of the slowed cells, or of all cells where nothing changed."""
    rows = [["cells", "slower", "pass or faster", "inconclusive", "launches"]]
    for number, question in enumerate(QUESTIONS):
        source = np.random.default_rng([SEED, 100 + number])
        verdicts: list[Verdict] = []
        launches: list[float] = []
        for _ in range(runs):
            run = trace(
                question.model,
                source,
                question.change,
                slowed_engines=question.slowed_engines,
                slowed_cells=question.slowed_cells,
                stored=question.stored,
                nights=1,
                launches=12,
            )
            judgements, cost = judged(run, question.model, False, question.session)
            chosen = run.slowed if question.change else np.ones_like(run.slowed)
            verdicts += [judgement.verdict for judgement, taken in zip(judgements, chosen) if taken]
            launches += cost[chosen].tolist()
        shares = [
            sum(verdict in wanted for verdict in verdicts) / len(verdicts)
            for wanted in ({Verdict.SLOWER}, {Verdict.PASS, Verdict.FASTER}, {Verdict.INCONCLUSIVE})
        ]
        rows.append([question.label, *(f"{share:.1%}" for share in shares), f"{np.mean(launches):.1f}"])
    return "### ours, stored baseline, question by question\n\n" + format_table(rows) + "\n"
