"""The pytest plugin: options, fixtures and hooks. What a run does lies in `hybrid_ops.session`."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from hybrid_ops.engines.devices import devices, gpus, server
from hybrid_ops.engines.spec import Case
from hybrid_ops.errors import InputError
from hybrid_ops.measure.conditions import Limits
from hybrid_ops.measure.launch import LaunchRecord
from hybrid_ops.measure.pair import Arm
from hybrid_ops.measure.store import new_run_folder
from hybrid_ops.regression.cells import Cell, CellResult
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.report.comparison import comparison_text
from hybrid_ops.report.message import cell_message, cell_properties
from hybrid_ops.report.numbers import show
from hybrid_ops.report.plot_command import write_files
from hybrid_ops.report.rollout import rollout_text
from hybrid_ops.report.serving import serving_text
from hybrid_ops.report.table import ARM_COLUMNS, COLUMNS, aligned, counts, reason_lines, result_rows
from hybrid_ops.session import ArmsRun, PerfRun, RunOptions
from hybrid_ops.suite_plan import SuitePlan, chosen_platform, server_url
from hybrid_ops.workloads.probe import CacheProbe, PrefixProbe
from hybrid_ops.workloads.serving import ServingWorkload
from hybrid_ops.workloads.workload import ComparedWorkload, Workload
from hybrid_ops.yaml_files import parse_value

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
BUDGET_SECONDS = {"quick": 200.0, "hybrid-attention": 240.0, "standard": 1800.0, "full": 7200.0}
"""What a run of each suite may last before undecided cells are no longer launched again."""
NO_GPU = "needs a GPU, and NVML shows none on this machine"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("perf", "performance regression (hybrid-ops)")
    group.addoption("--perf", action="store_true", help="Run the performance tests, and only them.")
    group.addoption(
        "--update-baselines",
        action="store_true",
        help="Record what this run measures as the new baselines (with --perf). Launches every engine 3 times.",
    )
    group.addoption(
        "--perf-suite",
        metavar="SUITE",
        default="quick",
        help="quick (default), standard, full, serving, rollout, hybrid-attention.",
    )
    group.addoption(
        "--perf-device", choices=["auto", "cpu", "cuda"], default="auto", help="Where engines run (default: auto)."
    )
    group.addoption("--perf-require-gpu", action="store_true", help="Fail, not skip, GPU tests where there is no GPU.")
    group.addoption(
        "--perf-baselines", metavar="DIR", default="perf_baselines", help="Folder of the baselines (perf_baselines)."
    )
    group.addoption(
        "--perf-results", metavar="DIR", default="perf_results", help="Folder for results and logs (perf_results)."
    )
    group.addoption(
        "--perf-models", metavar="FILE", action="append", default=[], help="A further zoo file; may be repeated."
    )
    group.addoption(
        "--perf-set",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="Set a field of the suite's workloads (num_prompts=20, prompt_tokens=256,512), arg.NAME=VALUE (an engine "
        "argument), config.NAME=VALUE (of the model's config.json) or model=NAME_OR_CONFIG (the base model of a "
        "comparison); may be repeated.",
    )
    group.addoption("--perf-workloads", metavar="FILE", help="Workloads and suites instead of the shipped ones.")
    group.addoption(
        "--perf-weights", choices=["seeded", "hub"], default="seeded", help="Drawn weights (default) or the real ones."
    )
    group.addoption("--perf-server", metavar="URL", help="Aim serving cases at this running OpenAI-compatible server.")
    group.addoption(
        "--perf-server-model",
        metavar="MODEL=NAME",
        action="append",
        default=[],
        help="What the running server calls a model of the zoo; may be repeated.",
    )
    group.addoption(
        "--perf-data", metavar="DIR", default="perf_data", help="Folder of data files that do not ship (perf_data)."
    )
    group.addoption(
        "--perf-prompts",
        metavar="FILE_OR_DATASET",
        help="Prompts of the rollout suite: a JSON, JSONL or text file, or a Hugging Face dataset (drawn tokens).",
    )
    group.addoption(
        "--perf-launches", type=int, metavar="N", default=8, help="Most launches of one engine in a run (8)."
    )
    group.addoption("--perf-budget", metavar="TIME", help="Time for the run, such as 90s or 15m; more only to finish.")
    group.addoption(
        "--perf-deadline", metavar="TIME", default="300s", help="Longest load or iteration of an engine (300s)."
    )
    group.addoption(
        "--perf-foreign-cpu",
        metavar="SHARE",
        default="5%",
        help="Share of the processors that others may use while an engine on the CPU is measured (5%%).",
    )
    group.addoption("--perf-ab", action="store_true", help="Compare two arms, A and B, launch by launch; no baseline.")
    group.addoption(
        "--perf-arm-b",
        metavar="DIFFERENCE",
        action="append",
        default=[],
        help="How arm B differs: python=PATH, env.NAME=VALUE or arg.NAME=VALUE (an engine argument); may be repeated.",
    )
    group.addoption(
        "--perf-aa", action="store_true", help="Compare an arm with itself: the noise of each cell on this machine."
    )
    group.addoption(
        "--perf-tolerance", metavar="SHARE", default="2%", help="Change that still passes between arms (2%%)."
    )
    group.addoption(
        "--perf-inject", metavar="SHARE", help="Slow each engine step by this share, such as 5%%, to see the gate work."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "perf: a performance test; run with --perf")
    config.addinivalue_line("markers", "gpu: needs a GPU, or runs on the one that is there")
    if config.option.update_baselines and not config.option.perf:
        raise pytest.UsageError("--update-baselines measures first: add --perf")
    try:
        config.stash[CELLS] = SuitePlan(config).cells()
        if not config.option.perf:
            return
        options = _run_options(config)
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


def _run_options(config: pytest.Config) -> RunOptions:
    option = config.option
    if option.perf_launches < 1:
        raise InputError(f"--perf-launches: at least 1, not {option.perf_launches}")
    environment: dict[str, str | None] = {}
    if option.perf_inject:
        environment["HYBRID_OPS_INJECT"] = str(share(option.perf_inject, "--perf-inject"))
    arms = None
    if option.perf_ab or option.perf_aa:
        if option.perf_server:
            raise InputError("--perf-server: arms are engines that the suite starts; a running server is none")
        if option.update_baselines:
            raise InputError("--update-baselines: record baselines in a plain run, not in a comparison of arms")
        arms = (Arm("a"), arm_b(option.perf_arm_b, environment))
        if option.perf_aa and (option.perf_arm_b or environment):
            raise InputError("--perf-aa: both arms are the same; drop --perf-arm-b and --perf-inject, or use --perf-ab")
    elif option.perf_arm_b:
        raise InputError("--perf-arm-b: only with --perf-ab")
    budget = option.perf_budget
    url = server_url(config)
    return RunOptions(
        device=devices(chosen_platform(config))[0] if url is None else server(url),
        baselines=config.rootpath / option.perf_baselines,
        update=option.update_baselines,
        most_launches=option.perf_launches,
        budget_seconds=seconds(budget, "--perf-budget") if budget else BUDGET_SECONDS.get(option.perf_suite, 1800.0),
        deadline_seconds=seconds(option.perf_deadline, "--perf-deadline"),
        environment=environment,
        command=shlex.join(["pytest", *config.invocation_params.args]),
        arms=arms,
        limits=Limits(foreign_cpu=share(option.perf_foreign_cpu, "--perf-foreign-cpu")),
        arm_tolerance=share(option.perf_tolerance, "--perf-tolerance"),
    )


def arm_b(differences: Sequence[str], environment: dict[str, str | None]) -> Arm:
    """Arm B from `python=PATH`, `env.NAME=VALUE` and `arg.NAME=VALUE` (the value as YAML). Raises InputError."""
    interpreter = sys.executable
    variables = dict(environment)
    arguments: dict[str, Any] = {}
    for difference in differences:
        name, equals, value = difference.partition("=")
        kind, _, key = name.partition(".")
        if equals and name == "python":
            interpreter = str(Path(value).absolute())
        elif equals and kind == "env" and key:
            variables[key] = value
        elif equals and kind == "arg" and key:
            arguments[key] = parse_value(value, f"--perf-arm-b: {name}")
        else:
            raise InputError(f"--perf-arm-b: python=PATH, env.NAME=VALUE or arg.NAME=VALUE, not {difference!r}")
    return Arm("b", interpreter, variables, arguments)


def seconds(text: str, option: str) -> float:
    """`90s`, `15m`, `2h` or a plain number of seconds. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(f"{option}: a time such as 90s, 15m or 2h, not {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def share(text: str, option: str) -> float:
    """`5%` as 0.05. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if match is None:
        raise InputError(f"{option}: a share such as 5%, not {text!r}")
    return float(match[1]) / 100


# --- progress and the end of the run --------------------------------------------------------------------------------


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
    document = _results(config)
    if document is None:
        return
    folder = config.stash[FOLDER]
    results = [CellResult.from_json(cell) for cell in document["cells"]]
    if not results:
        return
    terminalreporter.section("performance")
    _write_table(terminalreporter, results, config.option.verbose > 0, document["arms"] is not None)
    for finding in document["findings"]:
        terminalreporter.write_line(f"note: {finding}")
    if document["update"] is not None:
        _write_update(terminalreporter, document["update"])
    if text := rollout_text(document):
        terminalreporter.section("rollouts", sep="-")
        terminalreporter.write_line(text)
    if text := comparison_text(document):
        terminalreporter.section("full, sliding-window and hybrid attention", sep="-")
        terminalreporter.write_line(text)
        for line in config.stash.get(WRITTEN, ()):
            terminalreporter.write_line(os.path.relpath(line) if line.startswith("/") else line)
    if text := serving_text(document):
        terminalreporter.section("serving", sep="-")
        table = text.partition("\n\n")[0]
        terminalreporter.write_line(text if config.option.verbose > 0 else table)
        if config.option.verbose <= 0:
            terminalreporter.write_line(f"every result block: -v, or {folder / 'serving.txt'}")
    missing = sum(result.verdict is Verdict.MISSING_BASELINE for result in results)
    if missing and document["update"] is None:
        terminalreporter.write_line(
            f"{missing} cells have no baseline for {document['device']['class']}: "
            "record them with pytest --perf --update-baselines",
            yellow=True,
        )
    terminalreporter.write_line(f"{counts(results)} in {document['seconds']:.0f} s")
    terminalreporter.write_line(f"results: {folder / 'results.json'}")


def _write_table(reporter: TerminalReporter, results: Sequence[CellResult], every_cell: bool, arms: bool) -> None:
    rows = result_rows(results, every_cell)
    lines = aligned([ARM_COLUMNS if arms else COLUMNS, *(row for row, _ in rows)])
    reporter.write_line(lines[0], bold=True)
    colours = {"passed": "green", "failed": "red", "error": "red", "skipped": "yellow", "xfailed": "yellow"}
    for line, (_, verdict) in zip(lines[1:], rows):
        reporter.write_line(line, **{colours[verdict.outcome]: True})
    for line in reason_lines(results, every_cell):
        reporter.write_line(line)


def _write_update(reporter: TerminalReporter, update: dict[str, Any]) -> None:
    changed = [entry for entry in update["written"] if entry["old"] is not None]
    reporter.section("baselines updated", sep="-")
    for entry in changed:
        old, new = show(entry["old"], entry["unit"]), show(entry["new"], entry["unit"])
        reporter.write_line(f"{entry['case']} {entry['metric']}: {old} → {new}")
    files = sorted({entry["file"] for entry in update["written"]})
    reporter.write_line(
        f"{len(update['written']) - len(changed)} recorded for the first time, {len(changed)} changed, "
        f"{len(update['kept'])} portable ones kept, {len(update['refused'])} refused"
    )
    for name, reason in update["refused"].items():
        reporter.write_line(f"refused {name}: {reason}", red=True)
    for file in files:
        reporter.write_line(f"wrote {os.path.relpath(file)}")
