"""What only the cells together, or the launches of one cell, show: notes for the reader, never a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.regression.crosscell import Reading, read_across
from hybrid_ops.regression.outliers import outlier_launches


def findings(cells: Sequence[Cell], results: Sequence[CellResult]) -> list[str]:
    """One sentence for each change common to an engine or a launch, each lone outlier cell and each outlier launch."""
    readings = []
    outliers = []
    for cell, result in zip(cells, results):
        if cell.metric.kind is Kind.EXACT or result.noise is None:
            continue
        values = [float(value) for value in result.launches]
        outliers += [
            f"Launch {outlier.launch + 1} of {cell.id} lies {outlier.change:+.1%} from the median of its "
            f"{len(values)} launches ({outlier.deviations:.1f} deviations); it is counted like the others."
            for outlier in outlier_launches(values, result.noise)
        ]
        if result.baseline_launches:
            readings.append(
                Reading(
                    name=cell.id,
                    spec=cell.case.spec.launch_name,
                    direction=Direction(result.direction),
                    baseline=[float(value) for value in result.baseline_launches],
                    current=values,
                    noise=result.noise,
                )
            )
    return _reference_kernels(cells, results) + [finding.text for finding in read_across(readings)] + outliers


def unchecked(launches: Sequence[LaunchRecord]) -> list[str]:
    """One sentence for all that NVML did not tell of the GPU in some launch, so that nobody takes it for good."""
    reasons: dict[str, set[str]] = {}
    for record in launches:
        for name, reason in record.conditions.get("gpu", {}).get("unchecked", {}).items():
            reasons.setdefault(reason, set()).add(name)
    told = [f"{', '.join(sorted(names))} ({reason})" for reason, names in reasons.items()]
    return [f"Not checked on the GPU: {'; '.join(told)}."] if told else []


def _reference_kernels(cells: Sequence[Cell], results: Sequence[CellResult]) -> list[str]:
    """One sentence for each engine spec whose build lacks operations that the suite stands in for."""
    stand_ins = {
        cell.case.spec.name: result.reference_kernels
        for cell, result in zip(cells, results)
        if result.reference_kernels
    }
    return [
        f"{name} runs on reference kernels for {', '.join(operations)}: its exact metrics count fully, its times are "
        "not the engine's."
        for name, operations in stand_ins.items()
    ]
