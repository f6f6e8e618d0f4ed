"""Cases: one model × engine configuration × workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.workloads.base import Workload, definition_hash

if TYPE_CHECKING:
    from hybrid_ops.measure.procedures.procedure import Procedure


@dataclass(frozen=True, eq=False)
class Case:
    """One model × engine configuration × workload, and the procedure that measures it."""

    spec: EngineSpec
    workload_name: str
    workload: Workload
    procedure: Procedure
    data_folder: Path | None = None
    """Where the data files of workloads lie that do not ship with the suite."""
    _definitions: dict[bool, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def id(self) -> str:
        """The readable key of the case everywhere, for example `nemotron-h-tiny/decode`."""
        return f"{self.spec.name}/{self.workload_name}"

    def with_arguments(self, arguments: Mapping[str, Any]) -> Case:
        """The case on its spec with further engine arguments."""
        return replace(self, spec=self.spec.with_arguments(arguments))

    def definition(self, portable: bool) -> str:
        """Hash of all that the measured numbers depend on by intent: model, engine, arguments, workload.

        `portable` leaves out what only fits the case to a platform, for values that hold on every machine. Computed
        once: it reads files.
        """
        if portable not in self._definitions:
            parts = [
                *self.spec.definition(portable),
                self.workload.definition(portable),
                *self.procedure.definition(self),
            ]
            self._definitions[portable] = definition_hash(*parts)
        return self._definitions[portable]
