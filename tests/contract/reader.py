"""What a release of vLLM has of what our workers need, read off its Python sources without running them.

ci/vllm-contract 0.33.0                 of a release on PyPI (a wheel of some 300 MB is downloaded and thrown away)
ci/vllm-contract path/to/vllm-….whl     of a wheel that is here
ci/vllm-contract --write 0.33.0         keep what was found in tests/contract/facts/, as its test reads it
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hybrid_ops.engines import vllm_needs

ENGINES = Path(vllm_needs.__file__).parent
FACTS = Path(__file__).parent / "facts"
MOST_STEPS = 6
"""From one module to the one that a name really stands in."""


class Sources:
    """The modules of one release.

    Parameters
    ----------
    read: the text of a file such as `vllm/config/vllm.py`; None where there is no such file
    """

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self._read = read
        self._trees: dict[str, ast.Module | None] = {}

    def tree(self, module: str) -> ast.Module | None:
        if module not in self._trees:
            path = module.replace(".", "/")
            text = self._read(f"{path}.py")
            text = text if text is not None else self._read(f"{path}/__init__.py")
            self._trees[module] = None if text is None else ast.parse(text)
        return self._trees[module]

    def find(self, need: str) -> str | None:
        """What there is of a need: a signature such as `(vllm_config, kv_cache_config)`, `present`, or None."""
        module, _, name = need.partition(":")
        if key := re.fullmatch(r"(\w+)\[(\w+)\]", name):
            return self._key(module, *key.groups())
        name, _, used = name.partition(">")
        first, *members = name.split(".")
        found = self._top_level(module, first)
        for member in members:
            found = self._member(found[0], found[1], member) if found is not None else None
        if found is None:
            return None
        node = found[1]
        if used:
            names = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
            return "present" if used in names else None
        return _signature(node)

    def _key(self, module: str, dictionary: str, key: str) -> str | None:
        found = self._top_level(module, dictionary)
        keys = (
            one.value
            for part in (ast.walk(found[1]) if found is not None else ())
            if isinstance(part, ast.Dict)
            for one in part.keys
            if isinstance(one, ast.Constant)
        )
        return "present" if key in keys else None

    def _top_level(self, module: str, name: str, steps: int = MOST_STEPS) -> tuple[str, ast.AST] | None:
        """Where a module's name is defined: (module, node). Names that it imports, or loads late, are followed."""
        tree = self.tree(module)
        if tree is None or not steps:
            return None
        imported: tuple[str, str] | None = None
        in_stars = []
        for node in _outside_functions(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                return module, node
            if isinstance(node, ast.Assign | ast.AnnAssign) and name in _assigned(node):
                return module, node
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        imported = self._absolute(module, node), alias.name
                    if alias.name == "*":
                        in_stars.append(self._absolute(module, node))
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values):
                    is_late = isinstance(key, ast.Constant) and key.value == name and isinstance(value, ast.Constant)
                    if is_late and isinstance(value.value, str) and value.value.startswith("."):
                        place, _, late = value.value.partition(":")
                        imported = f"{module}{place}", late
        if imported is not None:
            return self._top_level(*imported, steps=steps - 1)
        for star in in_stars:
            if (found := self._top_level(star, name, steps - 1)) is not None:
                return found
        return (module, ast.Pass()) if self.tree(f"{module}.{name}") is not None else None

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        is_package = self._read(f"{module.replace('.', '/')}/__init__.py") is not None
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _member(self, module: str, node: ast.AST, name: str) -> tuple[str, ast.AST] | None:
        """A member of a class: a method, a field, what a method sets on `self`, or one of a base class."""
        if not isinstance(node, ast.ClassDef):
            return None
        for part in node.body:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name == name:
                return module, part
            if isinstance(part, ast.Assign | ast.AnnAssign) and name in _assigned(part):
                return module, part
        for part in ast.walk(node):
            if isinstance(part, ast.Assign | ast.AnnAssign) and f"self.{name}" in _assigned(part):
                return module, part
        for base in node.bases:
            inner = base.value if isinstance(base, ast.Subscript) else base
            found = self._top_level(module, inner.id) if isinstance(inner, ast.Name) else None
            member = self._member(*found, name) if found is not None else None
            if member is not None:
                return member
        return None


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when a module is imported, or are for types; the bodies of classes and functions left out."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _outside_functions(node)


def _assigned(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    flat = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {ast.unparse(target) for target in flat}


def _signature(node: ast.AST) -> str:
    """A method's or function's parameters by name, without the first of a method; `present` for everything else."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return "present"
    if any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list):
        return "present"
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    rest = [f"*{node.args.vararg.arg}"] if node.args.vararg else []
    rest += [f"**{node.args.kwarg.arg}"] if node.args.kwarg else []
    return f"({', '.join([*names, *rest])})"


def needs() -> dict[str, str]:
    """All that the workers and plugins need: the list beside them, and what they import."""
    imported = {
        f"{node.module}:{alias.name}": ""
        for file in sorted(ENGINES.rglob("*.py"))
        if not any(part in file.relative_to(ENGINES).as_posix() for part in vllm_needs.OF_CPU_ONLY)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vllm"
        for alias in node.names
    }
    return {**imported, **vllm_needs.NEEDS}


def lacking(found: dict[str, str | None]) -> list[str]:
    """What a release lacks of our needs, in words, by `find`'s answers."""
    problems = []
    for need, wanted in needs().items():
        if need not in found:
            problems.append(f"{need}: not looked for yet")
        elif (there := found[need]) is None:
            problems.append(f"{need}: gone")
        elif wanted and (missing := [name for name in _names(wanted) if name not in _names(there)]):
            problems.append(f"{need}: takes {there}, and we give {', '.join(missing)}")
    return problems


def _names(signature: str) -> list[str]:
    return re.findall(r"\w+", signature)


def installed_sources() -> Sources:
    """Those of the vLLM that is installed here."""
    import importlib.util

    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0]).parent

    def read(name: str) -> str | None:
        path = root / name
        return path.read_text(encoding="utf-8") if path.is_file() else None

    return Sources(read)


def read_wheel(wheel: Path) -> dict[str, object]:
    """What a wheel has, as a file of facts keeps it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sources = Sources(lambda name: archive.read(name).decode() if name in names else None)
        found = {need: sources.find(need) for need in sorted(needs())}
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"version": wheel.name.split("-")[1], "wheel": wheel.name, "sha256": digest.hexdigest(), "found": found}


def download(version: str, folder: Path) -> Path:
    """A release's wheel from the package index. Raises SystemExit in one line."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        f"vllm=={version}",
    ]
    if subprocess.run([*command, "--dest", str(folder)], check=False).returncode:
        raise SystemExit(f"ci/vllm-contract: pip found no wheel of vllm {version}")
    [wheel] = folder.glob("*.whl")
    return wheel


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/vllm-contract", description="What a release of vLLM has of our needs.")
    parser.add_argument("release", help="a version such as 0.33.0, or the path of a wheel")
    parser.add_argument("--write", action="store_true", help="keep what was found in tests/contract/facts/")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.release)
        facts = read_wheel(path if path.is_file() else download(args.release, Path(folder)))
    found = facts["found"]
    assert isinstance(found, dict)
    for need, there in found.items():
        print(f"{'✗' if there is None else '✓'} {need} {there if there not in (None, 'present') else ''}".rstrip())
    problems = lacking(found)
    print("\n".join(["", f"vllm {facts['version']}: {len(problems)} of {len(found)} needs are not met", *problems]))
    if args.write:
        target = FACTS / f"{facts['version']}.json"
        target.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        print(target)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
