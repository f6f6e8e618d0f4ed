"""What a run, or a night of several runs, cost: in a few sentences, and as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from hybrid_ops.regression.cost import Cost, EngineCost, LeftOut, VerdictCost, known_sum
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.numbers import show_time
from hybrid_ops.report.report import Block, Lines, Report, Section, Shown, Style, Table

MOST_NAMES = 3
"""How many engines, or verdicts, a sentence names."""
BUDGET_STEP = 10
"""A budget that is proposed is a multiple of so many seconds."""
ENGINE_COLUMNS = ("engine", "verdicts", "launches", "cells", "machine", "GPU", "of all launches")
VERDICT_COLUMNS = ("verdict", "cells", "machine", "GPU", "of all launches")


class CostReport(Report):
    """Two or three lines; with `-v` and in the summary the tables by engine and by verdict."""

    name: ClassVar[str] = "cost"

    def section(self, run: RunResults) -> Section | None:
        cost = run.cost
        if cost is None or not cost.engines:
            return None
        parts = (
            f"launches {show_time(cost.launching_seconds)}, waiting for devices {show_time(cost.waiting_seconds)}, "
            f"set-up and judging {show_time(cost.other_seconds)}"
        )
        verdicts = [f"{one.verdict.value} {show_time(one.seconds)}" for one in cost.verdicts[:MOST_NAMES]]
        blocks: list[Block] = [
            Lines([f"{spent(cost.seconds, cost.gpu_seconds)} ({parts})"]),
            Lines([f"most: {dearest(cost.engines)}; by verdict: {', '.join(verdicts)}"]),
        ]
        if cost.left_out:
            blocks.append(Lines([f"{left_out(cost.left_out)}; {more_budget(cost)}"], Style.WARNING))
        for shown in (Shown.VERBOSE, Shown.SUMMARY):
            blocks += [
                Table(ENGINE_COLUMNS, engine_rows(cost.engines), shown=shown),
                Table(VERDICT_COLUMNS, verdict_rows(cost.verdicts), shown=shown),
            ]
        return Section("cost", blocks)


def spent(seconds: float, gpu_seconds: float | None) -> str:
    """`12.4 min of machine, 0 min of GPU`."""
    gpu = "an unknown time" if gpu_seconds is None else show_time(gpu_seconds)
    return f"{show_time(seconds)} of machine, {gpu} of GPU"


def dearest(engines: Sequence[EngineCost]) -> str:
    """`nemotron-h-tiny 1.1 min in 3 launches, llama-tiny 48 s in 1 launch`, of engines in order of their cost."""
    return ", ".join(
        f"{engine.engine} {show_time(engine.seconds)} in {engine.launches} launch{'' if engine.launches == 1 else 'es'}"
        for engine in engines[:MOST_NAMES]
    )


def together(engines: Sequence[EngineCost]) -> list[EngineCost]:
    """The engines of several runs, those of one name as one, the most expensive first."""
    groups: dict[str, list[EngineCost]] = {}
    for engine in engines:
        groups.setdefault(engine.engine, []).append(engine)
    summed = [
        EngineCost(
            engine=name,
            launches=sum(one.launches for one in group),
            cells=sum(one.cells for one in group),
            verdicts=sum((Counter(one.verdicts) for one in group), Counter()),
            seconds=math.fsum(one.seconds for one in group),
            gpu_seconds=known_sum(one.gpu_seconds for one in group),
        )
        for name, group in groups.items()
    ]
    return sorted(summed, key=lambda engine: -engine.seconds)


def left_out(left: Sequence[LeftOut]) -> str:
    """`left out: nemotron-h-tiny, 5 undecided cells: a launch takes 14 s and 3 s of the budget were left`."""
    told = []
    for one in left:
        count = f"{len(one.cells)} undecided cell{'' if len(one.cells) == 1 else 's'}"
        rest = "nothing" if one.seconds_left <= 0 else show_time(one.seconds_left)
        told.append(
            f"{one.engine}, {count}: a launch takes {show_time(one.launch_seconds)} and {rest} of the budget was left"
        )
    return f"left out: {'; '.join(told)}"


def more_budget(cost: Cost) -> str:
    """How large a budget would have been enough for one more launch of each engine that was left out."""
    least = min(one.seconds_left for one in cost.left_out)
    needed = cost.budget_seconds - least + sum(one.launch_seconds for one in cost.left_out)
    return f"for one more launch of each: --perf-budget={BUDGET_STEP * math.ceil(needed / BUDGET_STEP)}s"


def engine_rows(engines: Sequence[EngineCost]) -> list[list[str]]:
    whole = sum(engine.seconds for engine in engines)
    return [
        [
            engine.engine,
            ", ".join(f"{count} {verdict.value}" for verdict, count in engine.verdicts.items()),
            str(engine.launches),
            str(engine.cells),
            show_time(engine.seconds),
            show_time(engine.gpu_seconds),
            _share(engine.seconds, whole),
        ]
        for engine in engines
    ]


def verdict_rows(verdicts: Sequence[VerdictCost]) -> list[list[str]]:
    whole = sum(one.seconds for one in verdicts)
    return [
        [
            one.verdict.value,
            str(one.cells),
            show_time(one.seconds),
            show_time(one.gpu_seconds),
            _share(one.seconds, whole),
        ]
        for one in verdicts
    ]


def _share(seconds: float, whole: float) -> str:
    return f"{seconds / whole:.0%}".replace("%", " %") if whole else "—"


def night_lines(costs: Sequence[Cost]) -> list[str]:
    """What the runs of a night cost together, and what each left out; nothing where none was measured."""
    if not costs:
        return []
    whole = spent(math.fsum(cost.seconds for cost in costs), known_sum(cost.gpu_seconds for cost in costs))
    engines = together([engine for cost in costs for engine in cost.engines])
    return [f"cost: {whole}; most: {dearest(engines)}", *(left_out(cost.left_out) for cost in costs if cost.left_out)]
