"""What pytest calls with `--perf`: collect the suite, measure it before its first testcase, report it at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops import report
from hybrid_ops.engines import registry
from hybrid_ops.engines.devices import gpus, why_no_gpu
from hybrid_ops.errors import CannotWrite, InputError, refuses_to_be_written
from hybrid_ops.measure import procedures
from hybrid_ops.measure.power_limit import check_power_limits
from hybrid_ops.measure.store import new_run_folder
from hybrid_ops.plugin.fixtures import (
    cell_parameters,
    make_fixtures,
    measured_case,
    measured_claims,
    parametrize,
)
from hybrid_ops.plugin.progress import PROGRESS_FILE, ProgressFile
from hybrid_ops.plugin.settings import others_than, run_options, suite_options
from hybrid_ops.plugin.shards import has_nothing_to_do, own_testcases, shard_line
from hybrid_ops.plugin.state import (
    DESELECTED,
    FOLDER,
    PLAN,
    PROGRESS,
    RUN,
    SHARD,
    TOLD,
    cells_of,
    is_controller,
    is_worker,
)
from hybrid_ops.plugin.terminal import NEEDS_GPU, without_explained, write_report, write_unmeasured
from hybrid_ops.regression.cells import Cell
from hybrid_ops.regression.results import RESULTS_FILE, RunResults, read_results
from hybrid_ops.report import write_reports
from hybrid_ops.run.run import PerfRun

__all__ = ["measured_case", "measured_claims"]
"""The fixtures that pytest finds here."""


def pytest_configure(config: pytest.Config) -> None:
    try:
        for known in (registry.KNOWN, procedures.KNOWN, report.KNOWN):
            known.check()
    except InputError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(make_fixtures(), "hybrid_ops.cell_fixtures")
    cells_of(config)  # bad input is told before anything else
    try:
        options = run_options(config)
        if is_worker(config):
            folder = Path(config.workerinput["perf_folder"])  # type: ignore[attr-defined]
        elif config.option.collectonly:
            return
        else:
            check_power_limits(options.device, suite_options(config).power_limits)
            folder = new_run_folder(Path(config.option.perf_results).absolute(), config.option.perf_run_id)
        config.stash[FOLDER] = folder
        progress = config.stash[PROGRESS] = ProgressFile(folder / PROGRESS_FILE, config)
        config.pluginmanager.register(progress)
        config.stash[RUN] = PerfRun(folder, options, progress.tell)
    except CannotWrite as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.INTERRUPTED)
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: every worker uses the controller's folder."""
    if FOLDER in node.config.stash:
        node.workerinput["perf_folder"] = str(node.config.stash[FOLDER])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep performance tests alone, and GPU tests off machines without one unless they are asked for."""
    wanted: list[pytest.Item] = []
    others: list[pytest.Item] = []
    without_gpu: list[pytest.Item] = []
    empty: list[pytest.Item] = []
    gpu_asked_for = config.option.perf_require_gpu or re.search(r"\bgpu\b", config.option.markexpr or "")
    for item in items:
        if item.get_closest_marker("perf") is None:
            others.append(item)
        elif _is_empty(item):
            empty.append(item)
        elif _lacks_gpu(item) and not gpu_asked_for:
            without_gpu.append(item)
        else:
            wanted.append(item)
    own = _own_testcases(config, wanted)
    kept = set(own)
    elsewhere = [item for item in wanted if item not in kept]
    reasons = []
    if elsewhere:
        reasons.append(f"{len(elsewhere)} performance tests are of other shards")
    if without_gpu:
        reasons.append(f"{len(without_gpu)} GPU tests not run: {_no_gpu()} (-m gpu shows them)")
    if empty and not wanted:
        reasons.append(f"the suite {config.option.perf_suite} has no such workloads; --perf-suite names another")
    reasons += _left_out(config)
    config.stash[DESELECTED] = "; ".join(reasons)
    if len(own) < len(items):
        config.hook.pytest_deselected(items=[*others, *without_gpu, *elsewhere])
        items[:] = own


def _own_testcases(config: pytest.Config, wanted: list[pytest.Item]) -> list[pytest.Item]:
    try:
        return own_testcases(config, wanted, _measured_cells(wanted))
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


def _left_out(config: pytest.Config) -> list[str]:
    """Of each model that `-k` names and the suite leaves out, which suite has it."""
    if PLAN not in config.stash:
        return []
    suite, named = config.option.perf_suite, re.findall(r"[a-z0-9][a-z0-9._-]*", config.option.keyword)
    left_out = config.stash[PLAN].left_out(dict.fromkeys(named))
    return [
        f"the suite {suite} leaves out {model}" + (f"; --perf-suite {' or '.join(others)} has it" if others else "")
        for model, others in left_out.items()
    ]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    lines = [config.stash[DESELECTED]] if config.stash.get(DESELECTED, "") else []
    if RUN in config.stash:
        run = config.stash[RUN]
        lines.append(f"perf: {run.device.name} ({run.device.device_class}), results in {config.stash[FOLDER]}")
        if SHARD in config.stash:
            lines.append(shard_line(config.stash[SHARD]))
        if left_out := others_than(run.device):
            lines.append(f"perf: not used, because they are of another class: {', '.join(left_out)}")
    return lines


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Measure all that was selected before the first testcase reads its number."""
    run = session.config.stash.get(RUN, None)
    if run is not None and not session.testsfailed and not is_worker(session.config):
        session.config.stash[PROGRESS].start()
    if run is not None and not session.testsfailed and not is_controller(session.config):
        try:
            run.execute(_measured_cells(session.items), session.config.stash.get(SHARD, None))
        except OSError as error:
            if not refuses_to_be_written(error):
                raise
            pytest.exit(
                f"{run.folder}: results cannot be written ({error.strerror}); the run has none",
                returncode=pytest.ExitCode.INTERRUPTED,
            )
        finally:
            session.config.stash[PROGRESS].stop()
    return (yield)


def _measured_cells(items: Sequence[pytest.Item]) -> list[Cell]:
    """The cells of testcases that need a measurement."""
    # A cell may have a testcase of its own and one that it shares with its case.
    return list(dict.fromkeys(cell for item in items if (cell := _measured_cell(item)) is not None))


def _measured_cell(item: pytest.Item) -> Cell | None:
    """The cell of a testcase that needs a measurement, or None."""
    parameters = cell_parameters(item)
    return parameters[0] if parameters and not _lacks_gpu(item) and _misfit(item) is None else None


def _misfit(item: pytest.Item) -> str | None:
    """Why a model that the testcase needs does not fit the device, or None."""
    cells = (cell for cell in cell_parameters(item) if isinstance(cell, Cell))
    return next((case.spec.misfit for cell in cells for case in cell.cases if case.spec.misfit), None)


def _is_empty(item: pytest.Item) -> bool:
    """Whether this is the placeholder that pytest makes of a test without any cell."""
    return any(not isinstance(parameter, Cell) for parameter in cell_parameters(item))


def _lacks_gpu(item: pytest.Item) -> bool:
    return item.get_closest_marker("gpu") is not None and not gpus()


def _no_gpu() -> str:
    return f"{NEEDS_GPU}: {why_no_gpu()}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _lacks_gpu(item):
        if item.config.option.perf_require_gpu:
            pytest.fail(f"{_no_gpu()}, and --perf-require-gpu was given", pytrace=False)
        pytest.skip(_no_gpu())
    if (misfit := _misfit(item)) is not None:
        pytest.skip(misfit)


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if PROGRESS in config.stash:
        config.stash[PROGRESS].stop()
    if not is_worker(config) and (results := _results(config)) is not None:
        config.stash[TOLD] = write_reports(results, config.stash[FOLDER])
    if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and has_nothing_to_do(config):
        session.exitstatus = pytest.ExitCode.OK


def _results(config: pytest.Config) -> RunResults | None:
    """The results of the run; None before they are there."""
    folder = config.stash.get(FOLDER, None)
    return None if folder is None or not (folder / RESULTS_FILE).exists() else read_results(folder)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """The report of the run, after what pytest itself says of the testcases that the report does not explain."""
    with without_explained(terminalreporter, is_verbose=config.option.verbose > 0):
        yield
    write_unmeasured(terminalreporter)
    results = _results(config)
    if results is not None and results.cells:
        write_report(terminalreporter, config, results)
