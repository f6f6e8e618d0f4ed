"""OpenMetrics text, for Prometheus and what reads its format: one gauge of values, one state set of verdicts.

No sample has the run's id as a label, so that a cell is one series over all nights; `hybrid_perf_run_info` has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar

from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.interchange.formats import Part, Writer, measured_number

CELL_LABELS = ("case", "metric", "device_class")


class OpenMetrics(Writer):
    """One file, which ends with `# EOF`."""

    name: ClassVar[str] = "openmetrics"
    parts_are: ClassVar[str] = "always one"

    def write(self, run: RunResults) -> Sequence[Part]:
        # Imported here: only an export needs it, and every command would wait for it.
        from prometheus_client.openmetrics.exposition import generate_latest

        return [Part("run", generate_latest(_Families(run)).decode())]


class _Families:
    """The metric families of a run, as prometheus_client asks for them."""

    def __init__(self, run: RunResults) -> None:
        self.run = run

    def collect(self) -> Iterable[object]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, StateSetMetricFamily

        run = self.run
        labels = (*CELL_LABELS, "unit", "kind", "direction")
        values = GaugeMetricFamily("hybrid_perf_value", "What a run measured.", labels=labels)
        baselines = GaugeMetricFamily("hybrid_perf_baseline", "What the value was compared with.", labels=labels)
        verdicts = StateSetMetricFamily("hybrid_perf_verdict", "What was concluded.", labels=CELL_LABELS)
        for cell in run.cells:
            cell_labels = (cell.case, cell.metric, run.device.device_class)
            all_labels = (*cell_labels, cell.unit, cell.kind, cell.direction)
            if (value := measured_number(cell)) is not None:
                values.add_metric(all_labels, value)
            if cell.baseline is not None and not isinstance(cell.baseline, str):
                baselines.add_metric(all_labels, cell.baseline)
            verdicts.add_metric(cell_labels, {verdict.value: cell.verdict is verdict for verdict in Verdict})
        yield from (values, baselines, verdicts)

        own = (run.device.device_class,)
        facts = {"run": run.run_id, "device": run.device.name, "device_class": run.device.device_class}
        versions = {re.sub(r"\W", "_", name, flags=re.ASCII): version for name, version in run.versions.items()}
        yield InfoMetricFamily("hybrid_perf_run", "The newest run.", value={**versions, **facts})
        if run.started:
            started = GaugeMetricFamily(
                "hybrid_perf_run_start_time_seconds", "When it began.", labels=("device_class",), unit="seconds"
            )
            started.add_metric(own, datetime.fromisoformat(run.started).timestamp())
            yield started
        if run.cost is not None:
            spent = GaugeMetricFamily(
                "hybrid_perf_engine_seconds",
                "What the launches of an engine took.",
                labels=("engine", "device_class"),
                unit="seconds",
            )
            for engine in run.cost.engines:
                spent.add_metric((engine.engine, *own), engine.seconds)
            yield spent
