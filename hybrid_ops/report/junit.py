"""`junit.xml` of a run: a suite for each case, a testcase for each metric.

It stands beside pytest's own `--junitxml`, which names testcases by their node and keeps their properties. Here the
case is the suite, and device, versions and launches are properties of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from junit_xml import TestCase, TestSuite, to_xml_report_string

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.message import cell_message, cell_properties
from hybrid_ops.report.report import Report

JUNIT_FILE = "junit.xml"


class JUnit(Report):
    """JUnit for CI, written with junit-xml."""

    name: ClassVar[str] = "junit"

    def write(self, run: RunResults, folder: Path) -> list[Path]:
        by_case: dict[str, list[CellResult]] = {}
        for cell in run.cells:
            by_case.setdefault(cell.case, []).append(cell)
        suites = [_suite(run, case, cells) for case, cells in by_case.items()]
        path = folder / JUNIT_FILE
        path.write_text(to_xml_report_string(suites), encoding="utf-8")
        return [path]


def _suite(run: RunResults, case: str, cells: Sequence[CellResult]) -> TestSuite:
    records = run.records_of(case)
    properties = {
        "device": run.device.name,
        "device_class": run.device.device_class,
        "versions": json.dumps(run.versions),
        "launches": str(len(records)),
        "run": run.run_id,
    }
    return TestSuite(
        case, [_testcase(run, cell) for cell in cells], properties=properties, timestamp=run.started or None
    )


def _testcase(run: RunResults, cell: CellResult) -> TestCase:
    numbers = json.dumps(cell_properties(cell, run), indent=1)
    testcase = TestCase(cell.metric, classname=cell.case, stdout=numbers)
    message = cell_message(cell)
    outcome = "passed" if cell.recorded else cell.verdict.outcome
    if outcome == "failed":
        testcase.add_failure_info(message.splitlines()[0], message, cell.verdict.value)
    elif outcome == "error":
        testcase.add_error_info(message.splitlines()[0], message, cell.verdict.value)
    elif outcome in ("skipped", "xfailed"):
        testcase.add_skipped_info(message.splitlines()[0], message)
    return testcase
