"""The judgement of all cells of a run together."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_ops.regression.judge.decision import Decision, Judgement
from hybrid_ops.regression.judge.estimate import beliefs, estimate
from hybrid_ops.regression.judge.evidence import Evidence
from hybrid_ops.regression.judge.noisy import Discovery, decide, sequential_p_value
from hybrid_ops.regression.judge.plain import decide_without_statistics
from hybrid_ops.regression.judge.sentences import sentence
from hybrid_ops.regression.judge.settings import Settings
from hybrid_ops.regression.statistics import false_discovery_threshold


def judge_cell(evidence: Evidence, settings: Settings, budget_left: bool = True) -> Judgement:
    """Judge one cell alone. Raises ValueError for a noisy metric without a direction or a negative tolerance."""
    return judge_run([evidence], settings, budget_left)[0]


def judge_run(cells: Sequence[Evidence], settings: Settings, budget_left: bool) -> list[Judgement]:
    """Judge all cells of a run together, in the order given.

    Call it after every launch with all cells, also the decided ones: the false-discovery rate is controlled over all of
    them. Launch again what comes back with `decided` False. Without `budget_left` a cell that is
    better passes at once instead of waiting to be recorded as faster, and the reasons say that the budget is spent.
    Raises ValueError for a noisy metric without a direction or a negative tolerance.
    """
    plain = [decide_without_statistics(evidence) for evidence in cells]
    noisy = iter(_decide_noisy([cell for cell, found in zip(cells, plain) if found is None], settings, budget_left))
    decisions = [found or next(noisy) for found in plain]
    return [
        Judgement(**vars(decision), reason=sentence(decision, evidence)) for decision, evidence in zip(decisions, cells)
    ]


def _decide_noisy(cells: Sequence[Evidence], settings: Settings, budget_left: bool) -> list[Decision]:
    estimates = [estimate(cell, belief, settings) for cell, belief in zip(cells, beliefs(cells, settings))]
    worse = [sequential_p_value(e.badness, e.recurrence_worse, e, settings) for e in estimates]
    better = [sequential_p_value(-e.badness, e.recurrence_better, e, settings) for e in estimates]
    worse_level = false_discovery_threshold(worse, settings.false_discovery_rate)
    better_level = false_discovery_threshold(better, settings.false_discovery_rate)
    return [
        decide(cell, known, Discovery(p_worse <= worse_level, p_better <= better_level, p_worse), settings, budget_left)
        for cell, known, p_worse, p_better in zip(cells, estimates, worse, better)
    ]
