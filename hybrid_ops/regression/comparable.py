"""Whether a cell's baseline may be compared with a run: by what was measured, and by how the GPU was set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_ops.measure.gpu import setting_differences
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.regression.baselines import FoundBaseline


@dataclass(frozen=True)
class Comparison:
    """What a cell is compared with."""

    baseline: FoundBaseline | None = None
    """None where there is none that counts."""
    stale: str | None = None
    """Why the baseline that there is does not count."""
    unfit: tuple[str, ...] = ()
    """Why the run's launches do not: the GPU's settings that the baseline had otherwise."""


def compared_with(
    found: FoundBaseline | None, definition: str, launches: Sequence[LaunchRecord], recording: bool
) -> Comparison:
    """What of a baseline counts for a cell of this definition that `launches` measured.

    A GPU that is set otherwise makes other times, which is the machine's fault and no change of the engine. While new
    baselines are recorded the settings of today are what is wanted, so it is the old baseline that does not count.
    """
    if found is None:
        return Comparison()
    if found.definition != definition:
        return Comparison(
            stale=f"The baseline in {found.path} was recorded for another definition of this case "
            f"({found.definition}, now {definition}): the model, its arguments or the workload changed."
        )
    recorded = found.recorded.settings
    differences = dict.fromkeys(
        difference for record in launches for difference in setting_differences(recorded, launch_settings(record))
    )
    if differences and recording:
        reason = f"The baseline in {found.path} was recorded on a GPU that was set otherwise: {'; '.join(differences)}."
        return Comparison(stale=reason)
    return Comparison(found, unfit=tuple(differences))


def launch_settings(record: LaunchRecord) -> dict[str, Any]:
    """How the GPU of a launch was set; empty for a CPU, and where nobody could tell."""
    return record.conditions.get("gpu", {}).get("settings", {})
