"""The pytest plugin: fixtures and hooks. Options: `hybrid_ops.options`; what a run does: `hybrid_ops.session`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from hybrid_ops.engines.devices import gpus
from hybrid_ops.engines.spec import Case
from hybrid_ops.errors import InputError
from hybrid_ops.measure.launch import LaunchRecord
from hybrid_ops.measure.store import new_run_folder
from hybrid_ops.options import add_options, run_options
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.report.message import cell_message, cell_properties
from hybrid_ops.report.plot_command import write_files
from hybrid_ops.report.terminal import write_report
from hybrid_ops.session import ArmsRun, PerfRun
from hybrid_ops.suite_plan import SuitePlan
from hybrid_ops.workloads.probe import CacheProbe, PrefixProbe
from hybrid_ops.workloads.serving import ServingWorkload
from hybrid_ops.workloads.workload import ComparedWorkload, Workload

RUN = pytest.StashKey[PerfRun]()
CELLS = pytest.StashKey[list[Cell]]()
FOLDER = pytest.StashKey[Path]()
DESELECTED = pytest.StashKey[str]()
PROGRESS = pytest.StashKey["ProgressFile"]()
WRITTEN = pytest.StashKey[list[str]]()
"""The files of a comparison, or why there are none."""

FIXTURES: dict[str, tuple[type, ...]] = {
    "generation_cell": (Workload,),
    "comparison_cell": (ComparedWorkload,),
    "serving_cell": (ServingWorkload,),
    "probe_cell": (CacheProbe, PrefixProbe),
    "cache_plan_cell": (CacheProbe,),
}
"""The fixtures that stand for judged cells, and the kinds of workload that each is parametrized over."""
NO_GPU = "needs a GPU, and NVML shows none on this machine"


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "perf: a performance test; run with --perf")
    config.addinivalue_line("markers", "gpu: needs a GPU, or runs on the one that is there")
    if config.option.update_baselines and not config.option.perf:
        raise pytest.UsageError("--update-baselines measures first: add --perf")
    try:
        config.stash[CELLS] = SuitePlan(config).cells()
        if not config.option.perf:
            return
        options = run_options(config)
        if hasattr(config, "workerinput"):
            folder = Path(config.workerinput["perf_folder"])
        elif config.option.collectonly:
            return
        else:
            folder = new_run_folder(Path(config.option.perf_results).absolute())
        config.stash[FOLDER] = folder
        run_type = ArmsRun if options.arms is not None else PerfRun
        config.stash[RUN] = run_type(folder, options, _teller(config, folder))
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: every worker uses the controller's folder."""
    if FOLDER in node.config.stash:
        node.workerinput["perf_folder"] = str(node.config.stash[FOLDER])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, kinds in FIXTURES.items():
        if fixture in metafunc.fixturenames:
            cells = [cell for cell in metafunc.config.stash[CELLS] if type(cell.case.workload) in kinds]
            by_id = {cell.id if fixture != "cache_plan_cell" else cell.case.id: cell for cell in cells}
            parameters = [pytest.param(cell, id=name, marks=_marks(cell)) for name, cell in by_id.items()]
            metafunc.parametrize(fixture, parameters, indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep performance tests and the others apart, and GPU tests off machines without one unless they are asked for."""
    wanted: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    empty: list[pytest.Item] = []
    reasons = []
    gpu_asked_for = config.option.perf_require_gpu or re.search(r"\bgpu\b", config.option.markexpr or "")
    for item in items:
        is_perf = item.get_closest_marker("perf") is not None
        without_gpu = item.get_closest_marker("gpu") is not None and not gpus()
        keep = is_perf == config.option.perf and not (is_perf and without_gpu and not gpu_asked_for)
        if _is_empty(item):
            empty.append(item)
            continue
        (wanted if keep else left_out).append(item)
    perf_left_out = [item for item in left_out if item.get_closest_marker("perf")]
    if perf_left_out and not config.option.perf:
        reasons.append(f"{len(perf_left_out)} performance tests not run: add --perf")
    elif perf_left_out:
        reasons.append(f"{len(perf_left_out)} GPU tests not run: {NO_GPU} (-m gpu shows them)")
    if config.option.perf and empty and not wanted:
        reasons.append(f"the suite {config.option.perf_suite} has no such workloads; --perf-suite names another")
    if left_out or empty:
        config.hook.pytest_deselected(items=left_out)
        items[:] = wanted
    config.stash[DESELECTED] = "; ".join(reasons)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    lines = [config.stash[DESELECTED]] if config.stash.get(DESELECTED, "") else []
    if RUN in config.stash:
        run = config.stash[RUN]
        lines.append(f"perf: {run.device.name} ({run.device.device_class}), results in {config.stash[FOLDER]}")
    return lines


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Measure all that was selected before the first testcase reads its number."""
    run = session.config.stash.get(RUN, None)
    if run is not None and not session.testsfailed and not _is_controller(session.config):
        run.execute([cell for item in session.items if (cell := _measured_cell(item)) is not None])
    elif run is not None and _is_controller(session.config):
        session.config.stash[PROGRESS].start()
    return (yield)


def _measured_cell(item: pytest.Item) -> Cell | None:
    """The cell of a testcase that needs a measurement, or None."""
    parameters = _cell_parameters(item)
    return parameters[0] if parameters and not _lacks_gpu(item) else None


def _cell_parameters(item: pytest.Item) -> list[Any]:
    """What the testcase was parametrized with for the fixtures of cells."""
    callspec = getattr(item, "callspec", None)
    return [] if callspec is None else [callspec.params[name] for name in FIXTURES if name in callspec.params]


def _is_empty(item: pytest.Item) -> bool:
    """Whether this is the placeholder that pytest makes of a test without any cell."""
    return any(not isinstance(parameter, Cell) for parameter in _cell_parameters(item))


def _lacks_gpu(item: pytest.Item) -> bool:
    return item.get_closest_marker("gpu") is not None and not gpus()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _lacks_gpu(item):
        if item.config.option.perf_require_gpu:
            pytest.fail(f"{NO_GPU}, and --perf-require-gpu was given", pytrace=False)
        pytest.skip(NO_GPU)


@pytest.fixture
def generation_cell(request: pytest.FixtureRequest) -> CellResult:
    """The judged cell of this testcase. A measurement that failed is an error here, before the test begins."""
    return _judged_cell(request)


@pytest.fixture
def comparison_cell(request: pytest.FixtureRequest) -> CellResult:
    """The judged cell of this testcase, of one configuration of attention. A failed measurement is an error here."""
    return _judged_cell(request)


@pytest.fixture
def serving_cell(request: pytest.FixtureRequest) -> CellResult:
    """The judged cell of this testcase, measured under load. A failed measurement is an error here."""
    return _judged_cell(request)


@pytest.fixture
def probe_cell(request: pytest.FixtureRequest) -> CellResult:
    """The judged cell of this testcase, from a probe. A probe that failed is an error here."""
    return _judged_cell(request)


@pytest.fixture
def cache_plan_cell(request: pytest.FixtureRequest) -> tuple[Case, LaunchRecord]:
    """A case whose engine's cache was probed, and the launch that probed it. One testcase for each case."""
    run, cell = request.config.stash[RUN], request.param
    outcome = run.result(cell).verdict.outcome
    if outcome in ("error", "xfailed"):
        pytest.skip(f"there are no figures: {run.result(cell).reason}")
    return cell.case, run.launch(cell.case)


def _judged_cell(request: pytest.FixtureRequest) -> CellResult:
    run = request.config.stash[RUN]
    result = run.result(request.param)
    properties = cell_properties(result, run.document["device"], run.document["versions"])
    request.node.user_properties.extend(properties.items())
    if result.verdict.outcome == "error":
        pytest.fail(cell_message(result), pytrace=False)
    return result


def check(result: CellResult) -> None:
    """Turn a verdict into the testcase's outcome."""
    outcome = "passed" if result.recorded else result.verdict.outcome
    if outcome == "failed":
        pytest.fail(cell_message(result), pytrace=False)
    if outcome == "skipped":
        pytest.skip(cell_message(result))
    if outcome == "xfailed":
        pytest.xfail(cell_message(result))


def _marks(cell: Cell) -> list[pytest.MarkDecorator]:
    return [pytest.mark.gpu] if cell.case.spec.platform == "cuda" else []


class ProgressFile:
    """Progress of a run that several processes share: they append lines, the controller shows them."""

    def __init__(self, path: Path, config: pytest.Config) -> None:
        self.path = path
        self.config = config
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def tell(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._ended.set()
            self._thread.join()

    def _show(self) -> None:
        self.path.touch()
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        with self.path.open(encoding="utf-8") as file:
            ended = False
            while not ended:
                ended = self._ended.wait(0.5)  # once more after the end, for the last lines
                for line in file:
                    if reporter is not None:
                        reporter.write_line(line.rstrip("\n"))


def _is_controller(config: pytest.Config) -> bool:
    """Whether this is xdist's controller, which collects and measures nothing itself."""
    return not hasattr(config, "workerinput") and bool(getattr(config.option, "dist", "no") != "no")


def _teller(config: pytest.Config, folder: Path) -> Any:
    progress = ProgressFile(folder / "progress.log", config)
    config.stash[PROGRESS] = progress
    if hasattr(config, "workerinput") or _is_controller(config):
        return progress.tell

    def tell(text: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(text)
        progress.tell(text)

    return tell


def pytest_sessionfinish(session: pytest.Session) -> None:
    if PROGRESS in session.config.stash:
        session.config.stash[PROGRESS].stop()
    if hasattr(session.config, "workerinput") or (document := _results(session.config)) is None:
        return
    folder = session.config.stash[FOLDER]
    if document["comparisons"]:
        try:
            session.config.stash[WRITTEN] = [str(path) for path in write_files(document, folder)]
        except InputError as error:
            session.config.stash[WRITTEN] = [f"no files or plots: {error}"]


def _results(config: pytest.Config) -> dict[str, Any] | None:
    """The `results.json` of the run; None before it is there."""
    folder = config.stash.get(FOLDER, None)
    if folder is None or not (path := folder / "results.json").exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if (document := _results(config)) is not None:
        plotted = config.stash.get(WRITTEN, [])
        write_report(terminalreporter, document, config.stash[FOLDER], config.option.verbose > 0, plotted)
