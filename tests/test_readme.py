"""The README's Python runs, and its commands and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("source", BLOCKS, ids=lambda source: source.split("import ")[-1].split("\n")[0])
def test_a_python_block_runs(source: str) -> None:
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)
    results = [names[name] for name in ("y", "model") if name in names]
    assert results
    if "y" in names:
        assert names["y"].isfinite().all()


def test_options_in_the_readme_exist(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["hybrid_ops.plugin"]')
    known = set(re.findall(r"--[a-z-]+", pytester.runpytest_subprocess("--help").stdout.str()))
    used = set(re.findall(r"(?<![\w-])--(?:perf|update)[a-z-]*", README))
    assert used <= known


def test_files_in_the_readme_exist() -> None:
    named = re.findall(r"\]\((docs/[a-z-]+\.md)\)", README) + re.findall(r"\bci/[a-z-]+\b", README)
    assert [name for name in named if not (ROOT / name).exists()] == []
