"""Training steps: times by part, memory by part beside the least by our accounting, and the projected hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hybrid_ops.measure.procedures.training import (
    ACTIVATIONS,
    BACKWARD,
    FORWARD,
    GRADIENTS,
    MFU,
    OPTIMIZER,
    OPTIMIZER_BYTES,
    PEAK,
    STEP,
    THROUGHPUT,
    TOLD,
    WEIGHTS,
)
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.numbers import show
from hybrid_ops.report.report import Block, Lines, Report, Section, Table

TIMES = ("case", "step", "step ms", "forward", "backward", "optimizer", "tok/s", "MFU", "loss off", "norm off")
MEMORY = ("case", "weights", "gradients", "optimizer", "activations", "peak", "accounted least")
NOTHING = "—"


class TrainingTables(Report):
    """A row for each case in a table of times and one of memory, and a line for each projection."""

    name: ClassVar[str] = "training"

    def section(self, run: RunResults) -> Section | None:
        told = {case: of for case, of in run.details("training").items() if run.records_of(case)}
        if not told:
            return None
        times = [_times(case, of, run.medians(case)) for case, of in told.items()]
        memory = [_memory(case, of, run.medians(case)) for case, of in told.items()]
        blocks: list[Block] = [Table(TIMES, times), Table(MEMORY, memory)]
        if lines := [line for case, of in told.items() if (line := projection(case, of, run.medians(case)))]:
            blocks.append(Lines(lines))
        return Section("training", blocks)


def step_words(told: Mapping[str, Any]) -> str:
    """What a step is: `4 × 64 float32 adamw`, and how it is run where that is not the plain way."""
    parts = [f"{told['batch']} × {told['tokens']}", told["precision"], told["optimizer"]]
    parts += [f"in {told['accumulation']} parts"] if told["accumulation"] > 1 else []
    parts += [f"{told['documents']} documents"] if told["documents"] > 1 else []
    parts += [f"{told['processes']} processes"] if told["processes"] > 1 else []
    parts += [word for word, name in (("compiled", "compile"), ("checkpointed", "checkpointing")) if told[name]]
    return " ".join(parts)


def _times(case: str, told: Mapping[str, Any], medians: Mapping[str, float]) -> tuple[str, ...]:
    milliseconds = [_shown(medians, metric.name, ".1f") for metric in (STEP, FORWARD, BACKWARD, OPTIMIZER)]
    share = f"{medians[MFU.name]:.1f} %" if MFU.name in medians else NOTHING
    errors = [_shown(medians, name, ".1e") for name in TOLD]
    return (case, step_words(told), *milliseconds, _shown(medians, THROUGHPUT.name, ".0f"), share, *errors)


def _memory(case: str, told: Mapping[str, Any], medians: Mapping[str, float]) -> tuple[str, ...]:
    metrics = (WEIGHTS, GRADIENTS, OPTIMIZER_BYTES, ACTIVATIONS, PEAK)
    least = told.get("accounted_bytes")
    return (
        case,
        *(show(medians.get(metric.name), "B") for metric in metrics),
        show(None if least is None else least["total"], "B"),
    )


def _shown(medians: Mapping[str, float], name: str, form: str) -> str:
    return format(medians[name], form) if name in medians else NOTHING


def projection(case: str, told: Mapping[str, Any], medians: Mapping[str, float]) -> str | None:
    """The hours and the memory that the data set would take, with the arithmetic; None without a data set or a rate."""
    data, rate = told["dataset"], medians.get(THROUGHPUT.name)
    if data is None or rate is None:
        return None
    tokens = data["examples"] * told["tokens"] * data["epochs"]
    return (
        f"{case}: {data['examples']} examples × {told['tokens']} tokens × {data['epochs']} epochs = "
        f"{tokens / 1e6:.4g} M tokens; / {rate:.0f} tok/s / 3600 = {tokens / rate / 3600:.2f} h, "
        f"at a peak of {show(medians[PEAK.name], 'B')}"
    )
