"""A report that has a fault says so, and costs the others nothing."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from hybrid_ops import report
from hybrid_ops.known import Known
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.report import Lines, Report, Section
from tests.regression.history.nights import cell, results


class Faulty(Report):
    name: ClassVar[str] = "faulty"

    def section(self, run: RunResults) -> Section | None:
        return Section("faulty", [Lines(["what could be told"])])

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        raise KeyError("no such metric")


def test_a_fault_is_told_and_kept_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "KNOWN", Known("a report", (Faulty(), *report.REPORTS)))
    told = report.write_reports(RunResults.model_validate(results(0, [cell(1.0)])), tmp_path)
    faulty, *others = told
    assert faulty.problem is not None
    assert faulty.problem.startswith("faulty: a fault of this report: KeyError: 'no such metric' (please report it")
    assert faulty.section is not None
    assert "Traceback" in (tmp_path / report.FAULTS_FILE).read_text()
    assert [one.problem for one in others] == [None] * len(report.REPORTS)
    assert "what could be told" in (tmp_path / "summary.md").read_text()
