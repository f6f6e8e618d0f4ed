"""Every rule on the same simulated runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybrid_ops.regression.proof.ours import SEED, judged
from hybrid_ops.regression.proof.rivals import RIVALS, Rule
from hybrid_ops.regression.proof.scores import Score
from hybrid_ops.regression.proof.traces import MODELS, NoiseModel, trace
from hybrid_ops.regression.verdicts import Verdict

OURS_STORED = "ours, stored baseline"
OURS_PAIRED = "ours, A/B pairs"


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
