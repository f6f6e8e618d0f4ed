"""The pytest plugin. Only this folder and the suite know pytest.

    options.py    the command line
    settings.py   what it means for a suite and a run
    hooks.py      what pytest calls with `--perf`
    fixtures.py   the cells and cases of testcases
    progress.py   what the terminal shows while a run goes on
    terminal.py   what it shows at the end
    state.py      what is kept of a session
    marks.py      the marks of performance tests

Every pytest run in an environment that has this package loads this module, so it imports the rest only with `--perf`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hybrid_ops.plugin.marks import MARKS
from hybrid_ops.plugin.options import add_options

if TYPE_CHECKING:
    from hybrid_ops.regression.cells import CellResult

_LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.option.update_baselines = config.option.update_baselines or config.option.add_to_baselines
    config.option.perf = config.option.perf or config.option.update_baselines
    if config.option.perf:
        from hybrid_ops.plugin import hooks

        config.pluginmanager.register(hooks, hooks.__name__)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `--perf`, leave performance tests out."""
    if config.option.perf:
        return
    left_out = [item for item in items if item.get_closest_marker("perf") is not None]
    config.stash[_LEFT_OUT] = len(left_out)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker("perf") is None]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    left_out = config.stash.get(_LEFT_OUT, 0)
    return [f"{left_out} performance tests not run: add --perf"] if left_out else []


def check(result: CellResult) -> None:
    """Turn the verdict of a cell into the testcase's outcome."""
    from hybrid_ops.report.message import cell_message

    outcome = "passed" if result.recorded else result.verdict.outcome
    if outcome == "failed":
        pytest.fail(cell_message(result), pytrace=False)
    if outcome == "skipped":
        pytest.skip(cell_message(result))
    if outcome == "xfailed":
        pytest.xfail(cell_message(result))
