"""Fixtures: the judged cells of each kind of work, and the outcome of a testcase."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hybrid_ops.measure.case import Case
from hybrid_ops.measure.procedures import procedures
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.plugin.state import RUN, cells_of
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.report.message import cell_message, cell_properties

MEASURED_CASE = "measured_case"
"""A case and the launch that measured it, a testcase a case. `@pytest.mark.procedure(NAME)` names the kind of work."""
PROCEDURE_MARK = "procedure"


def cell_fixtures() -> list[str]:
    """The names of the fixtures that stand for judged cells."""
    return list(dict.fromkeys(procedure.fixture for procedure in procedures()))


def make_fixtures() -> object:
    """A plugin with a fixture for the cells of each kind of work, registered ones included."""
    return type("CellFixtures", (), {name: _cell_fixture(name) for name in cell_fixtures()})()


def _cell_fixture(name: str) -> Any:
    def fixture(self: object, request: pytest.FixtureRequest) -> CellResult:
        return judged_cell(request)

    fixture.__doc__ = (
        "The judged cell of this testcase. A measurement that failed is an error here, before the test begins."
    )
    return pytest.fixture(name=name)(fixture)


def judged_cell(request: pytest.FixtureRequest) -> CellResult:
    """The verdict of the testcase's cell, whose numbers become properties of the testcase in JUnit."""
    run = request.config.stash[RUN]
    result = run.result(request.param)
    assert run.results is not None
    request.node.user_properties.extend(cell_properties(result, run.results).items())
    if result.verdict.outcome == "error":
        pytest.fail(cell_message(result), pytrace=False)
    return result


@pytest.fixture
def measured_case(request: pytest.FixtureRequest) -> tuple[Case, LaunchRecord]:
    """A case, and the launch that measured it. One testcase for each case of the marked kind of work."""
    run, cell = request.config.stash[RUN], request.param
    if run.result(cell).verdict.outcome in ("error", "xfailed"):
        pytest.skip(f"there are no figures: {run.result(cell).reason}")
    return cell.case, run.launch(cell.case)


def check(result: CellResult) -> None:
    """Turn a verdict into the testcase's outcome."""
    outcome = "passed" if result.recorded else result.verdict.outcome
    if outcome == "failed":
        pytest.fail(cell_message(result), pytrace=False)
    if outcome == "skipped":
        pytest.skip(cell_message(result))
    if outcome == "xfailed":
        pytest.xfail(cell_message(result))


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give a test one testcase for each cell, or case, that it asks for."""
    for fixture in cell_fixtures():
        if fixture in metafunc.fixturenames:
            _parametrize(metafunc, fixture, partial(_has_fixture, fixture))
    if MEASURED_CASE in metafunc.fixturenames:
        wanted = {name for mark in metafunc.definition.iter_markers(PROCEDURE_MARK) for name in mark.args}
        _parametrize(metafunc, MEASURED_CASE, lambda cell: cell.case.procedure.name in wanted)


def _has_fixture(fixture: str, cell: Cell) -> bool:
    return cell.case.procedure.fixture == fixture


def _parametrize(metafunc: pytest.Metafunc, fixture: str, is_wanted: Callable[[Cell], bool]) -> None:
    by_id: dict[str, Cell] = {}
    for cell in cells_of(metafunc.config):
        if is_wanted(cell):
            by_id.setdefault(cell.case.id if fixture == MEASURED_CASE else cell.id, cell)
    parameters = [pytest.param(cell, id=name, marks=_marks(cell)) for name, cell in by_id.items()]
    metafunc.parametrize(fixture, parameters, indirect=True)


def _marks(cell: Cell) -> list[pytest.MarkDecorator]:
    return [pytest.mark.gpu] if cell.case.spec.platform == "cuda" else []


def cell_parameters(item: pytest.Item) -> list[Any]:
    """What a testcase was parametrized with for the fixtures of cells; what is no Cell is pytest's placeholder."""
    callspec = getattr(item, "callspec", None)
    names = [*cell_fixtures(), MEASURED_CASE]
    return [] if callspec is None else [callspec.params[name] for name in names if name in callspec.params]
