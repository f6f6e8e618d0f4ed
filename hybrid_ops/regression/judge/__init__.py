"""The judge: from the launches of each cell to its verdict. No I/O; `docs/judging.md` explains it with formulas.

Everything is decided on the logarithm of the ratio of the current value to the baseline, so the unit of a metric is of
no importance. Numbers and prose are apart: a decision has a ground, and only `sentences` knows English.

The words of the judge:

- launch: one fresh engine process; for A/B a launch pair. It is the unit of replication, because what is measured
  within a launch is not independent.
- evidence: all that is known of one cell: its launches, its baseline's, its tolerance and what was measured of its
  noise.
- look: one reading of the evidence. One looks after every launch, and the allowed error is shared among all looks.
- level: the error that one look may make in one tail.
- prior, belief: what is expected of the noise before a cell's own launches are seen; a belief is the prior of one cell,
  measured by A/A or fitted to the run's own cells.
- estimate: the log-ratio of a cell, with its error after this look and what its error will be after the last one.
- badness: the log-ratio signed so that more is worse, whichever direction the metric has.
- margin: the log of the tolerance, 1 + tolerance; a badness beyond it is a regression.
- recurrence: that launch after launch lies on the same side, by an exact rank test; one bad launch proves nothing.
- discovery: a cell that differs from no change although all cells of the run were asked. The false-discovery rate
  limits how many of them are false.
- ground: why a cell has its verdict, as a value; its sentence is written from it.
- minimum detectable effect (MDE): the smallest change that the noise lets one see with the launches one may spend.
"""

from hybrid_ops.regression.judge.decision import Decision, Ground, Judgement
from hybrid_ops.regression.judge.evidence import Evidence, Value, are_alike, by_session
from hybrid_ops.regression.judge.run import judge_cell, judge_run
from hybrid_ops.regression.judge.settings import PRIORS, Prior, Settings
from hybrid_ops.regression.judge.tolerance import (
    TOLERANCE_DEVIATIONS,
    TOLERANCE_STEPS,
    minimum_detectable_effect,
    tolerance_from_launches,
)

__all__ = [
    "PRIORS",
    "TOLERANCE_DEVIATIONS",
    "TOLERANCE_STEPS",
    "Decision",
    "Evidence",
    "Ground",
    "Judgement",
    "Prior",
    "Settings",
    "Value",
    "are_alike",
    "by_session",
    "judge_cell",
    "judge_run",
    "minimum_detectable_effect",
    "tolerance_from_launches",
]
