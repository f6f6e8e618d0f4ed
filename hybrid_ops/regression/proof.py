"""The proof: our judge beside the rules of others, on the same simulated runs.

`python -m hybrid_ops.regression.proof` prints the tables of `docs/judging.md` (about two minutes; `--quick` a tenth).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.judge import Evidence, Judgement, Settings, judge_run
from hybrid_ops.regression.rivals import RIVALS, Flags, Rule
from hybrid_ops.regression.statistics import Noise
from hybrid_ops.regression.traces import MODELS, Array, NoiseModel, Trace, trace
from hybrid_ops.regression.verdicts import Verdict

TOLERANCE = 0.025
"""Half of the change that is to be found, as `docs/judging.md` advises."""
SEED = 20261121


@dataclass
class Score:
    """What one rule did on one noise model."""

    false_positives: int = 0
    unchanged: int = 0
    misses: int = 0
    passed: int = 0
    slowed: int = 0
    launches_unchanged: float = 0.0
    launches_slowed: float = 0.0
    inconclusive: int = 0
    runs: int = 0

    def add(self, run: Trace, flags: Flags, cost: Array, inconclusive: Flags, changed: bool) -> None:
        """Count one run: an A/A run for false positives, a run with a change for what it misses."""
        if changed:
            self.misses += int((run.slowed & ~flags).sum())
            self.passed += int((run.slowed & ~flags & ~inconclusive).sum())
            self.slowed += int(run.slowed.sum())
            self.launches_slowed += float(cost[run.slowed].sum())
        else:
            self.false_positives += int(flags.sum())
            self.unchanged += len(flags)
            self.launches_unchanged += float(cost.sum())
            self.inconclusive += int(inconclusive.sum())

    def plus(self, other: Score) -> Score:
        return Score(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})

    def row(self) -> list[str]:
        return [
            f"{self.false_positives / self.unchanged:.2%}",
            f"{self.misses / self.slowed:.1%}",
            f"{self.passed / self.slowed:.1%}",
            f"{self.inconclusive / self.unchanged:.1%}",
            f"{self.launches_unchanged / self.unchanged:.1f}",
            f"{self.launches_slowed / self.slowed:.1f}",
        ]


COLUMNS = (
    "rule",
    "false positives",
    "misses",
    "of these passed",
    "A/A inconclusive",
    "launches, A/A",
    "launches, 5 % slower",
)


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


def simulate(model: NoiseModel, runs: int, rivals: Sequence[Rule] = RIVALS) -> dict[str, Score]:
    """The scores of our rule and of the rivals on `runs` A/A runs and as many with 5 % in one of four engines."""
    source = np.random.default_rng([SEED, MODELS.index(model)])
    scores = {name: Score() for name in (OURS_STORED, OURS_PAIRED, *(rule.name for rule in rivals))}
    for _ in range(runs):
        for change in (0.0, 0.05):
            run = trace(model, source, change)
            for name, paired in ((OURS_STORED, False), (OURS_PAIRED, True)):
                judgements, cost = judged(run, model, paired)
                flags = np.array([judgement.verdict is Verdict.SLOWER for judgement in judgements])
                unsure = np.array([judgement.verdict is Verdict.INCONCLUSIVE for judgement in judgements])
                scores[name].add(run, flags, cost, unsure, bool(change))
            for rule in rivals:
                flags, cost = rule.judge(run)
                scores[rule.name].add(run, flags, cost, np.zeros_like(flags), bool(change))
    return scores


OURS_STORED = "ours, stored baseline"
OURS_PAIRED = "ours, A/B pairs"


def table(title: str, scores: dict[str, Score]) -> str:
    """One Markdown table."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *((name, *score.row()) for name, score in scores.items())]
    return f"### {title}\n\n" + _markdown(rows)


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
    rows: list[tuple[str, ...]] = [("cells", "slower", "pass or faster", "inconclusive", "launches"), ("---",) * 5]
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
        rows.append((question.label, *(f"{share:.1%}" for share in shares), f"{np.mean(launches):.1f}"))
    return "### ours, stored baseline, question by question\n\n" + _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hybrid_ops.regression.proof", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs, for tests")
    parser.add_argument("--runs", type=int, help="A/A runs (of 48 cells) and runs with a change, for each noise model")
    options = parser.parse_args(arguments)
    runs = options.runs or (4 if options.quick else 80)
    start = time.perf_counter()
    one_percent: dict[str, Score] = {}
    for model in MODELS:
        scores = simulate(model, runs)
        print(table(model.name, scores), flush=True)
        if model in MODELS[:5]:
            one_percent = {name: one_percent.get(name, Score()).plus(score) for name, score in scores.items()}
    print(table("all models with 1 % launch noise", one_percent))
    print(characteristics(runs))
    print(f"{runs} runs of 48 cells a model and condition, seed {SEED}, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
