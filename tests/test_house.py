"""The rules of the house, read off the source of `hybrid_ops`."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hybrid_ops"
FOLDERS = ("layers", "models", "workloads", "engines", "measure", "regression", "report", "run", "plugin")
"""Each imports only from itself and those before it. A module beside them is below all, unless it stands on top."""
ON_TOP = ("suite", "cli")
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_FILE = 300
SHORT_FOLDERS = ("run", "plugin", "report")
MODULES = {
    "junit-xml": "junit_xml",
    "nvidia-ml-py": "pynvml",
    "prometheus-client": "prometheus_client",
    "ruamel.yaml": "ruamel",
}
"""The module of a distribution, where that has another name."""
PYTEST_PLUGINS = {"pytest-xdist": "lets several processes share a run; its hook is in plugin/hooks.py"}
"""Declared distributions that pytest loads by itself, so that no line imports them, and what they are for."""

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"), filename=str(file))


def imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also within functions and for types. `from a import b` may mean `a.b`."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{file}:{node.lineno}: a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                place_of_module = ROOT / Path(*name.split("."))
                is_module = place_of_module.is_dir() or place_of_module.with_suffix(".py").is_file()
                yield node.lineno, name if is_module else node.module


def own_imports(file: Path) -> Iterator[tuple[int, str]]:
    """(line, module without the package's name) of each import from this package."""
    for line, name in imports_of(file):
        package, _, module = name.partition(".")
        if package == "hybrid_ops" and module:
            yield line, module


def place(file_or_module: Path | str) -> str:
    """The folder, or the module beside the folders, that a file or a module belongs to."""
    if isinstance(file_or_module, Path):
        return file_or_module.parts[0].removesuffix(".py")
    return file_or_module.partition(".")[0]


def reachable(folder: str) -> set[str]:
    """The folders that a folder may import from, and what lies below all."""
    below = {place(file) for file in FILES if len(file.parts) == 1} - set(ON_TOP)
    if folder in below:
        return below
    if folder in ON_TOP or folder == "__init__":
        return {*below, *FOLDERS, folder}
    if folder == "layers":
        return {"layers"}
    return {*below, *FOLDERS[: FOLDERS.index(folder) + 1]}


def worker_modules(file: Path) -> tuple[str, ...] | None:
    """What a file that runs in an engine's own process may import of this package; None for the others."""
    if file.parts[0] != "engines":
        return None
    name = file.parts[1].removesuffix(".py")
    if name == "protocol":
        return ()
    if name == "vllm_plugins":
        return ("engines.vllm_plugins", "layers")
    if name == "layer_bench":
        return ("engines.layer_bench", "layers")
    if name == "training_bench":
        known = ("engines.training_bench", "engines.protocol", "engines.layer_bench", "layers")
        return (*known, "engines.vllm_plugins.seeded_weights")
    if name == "vllm_needs":
        return ()
    if name.endswith("_worker") or name in ("vllm_probes", "vllm_scoring"):
        probes = ("engines.vllm_probes", "engines.vllm_scoring", "engines.vllm_plugins")
        benches = ("engines.layer_bench", "engines.training_bench")
        return ("engines.protocol", *probes, *benches, "layers")
    return None


def test_every_folder_is_known() -> None:
    assert {file.parts[0] for file in FILES if len(file.parts) > 1} == {*FOLDERS, "suite"}


def test_a_folder_imports_only_from_those_before_it() -> None:
    found = [
        f"{file}:{line}: {module}"
        for file in FILES
        for line, module in own_imports(file)
        if place(module) not in reachable(place(file))
    ]
    assert found == []


def test_what_runs_in_an_engines_process_imports_nothing_of_the_parents_side() -> None:
    known = {file: allowed for file in FILES if (allowed := worker_modules(file)) is not None}
    assert len([file for file in known if file.stem.endswith("_worker")]) >= 4
    found = [
        f"{file}:{line}: {module}"
        for file, allowed in known.items()
        for line, module in own_imports(file)
        if module != "engines" and not any(module == own or module.startswith(f"{own}.") for own in allowed)
    ]
    assert found == []


def test_the_conversation_needs_the_standard_library_alone() -> None:
    for name in ("engines/protocol.py", "engines/answers.py", "engines/noop_worker.py"):
        packages = {name.partition(".")[0] for _, name in imports_of(Path(name))}
        assert packages - {"hybrid_ops"} <= sys.stdlib_module_names


def test_only_the_plugin_and_the_testcases_know_pytest() -> None:
    knowing = {place(file) for file in FILES for _, name in imports_of(file) if name.partition(".")[0] == "pytest"}
    assert knowing == {"plugin", "suite"}
    private = [f"{file}:{line}" for file in FILES for line, name in imports_of(file) if name.startswith("_pytest")]
    assert private == []


def test_nobody_outside_asks_for_the_kind_of_a_workload() -> None:
    kinds = re.compile(r"Workload|Probe|Batch|Comparison|Rollout|Definition")
    found = []
    for file in FILES:
        if file.parts[0] == "workloads" or file.parts[:2] == ("measure", "procedures"):
            continue
        for node in ast.walk(tree_of(file)):
            is_question = (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
            )
            if is_question and kinds.search(ast.unparse(node)):
                found.append(f"{file}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


def test_no_function_is_long() -> None:
    found = []
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    found.append(f"{file}:{node.lineno}: {node.name} has {lines} lines")
    assert found == []


def test_no_file_of_the_run_its_reports_and_the_plugin_is_long() -> None:
    lengths = {file: len((PACKAGE / file).read_text().splitlines()) for file in FILES if file.parts[0] in SHORT_FOLDERS}
    assert {file: length for file, length in lengths.items() if length > MOST_LINES_OF_A_FILE} == {}


def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in project["dependencies"]]


@pytest.mark.parametrize("distribution", declared())
def test_every_declared_dependency_is_used(distribution: str) -> None:
    if distribution in PYTEST_PLUGINS:
        return
    module = MODULES.get(distribution, distribution)
    assert any(name.partition(".")[0] == module for file in FILES for _, name in imports_of(file)), (
        f"no line imports {module}: remove {distribution} from pyproject.toml"
    )
