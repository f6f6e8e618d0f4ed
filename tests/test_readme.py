"""The Python of the README and of the layers' page runs, and the README's first screen says what it must."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", ROOT / "docs" / "layers.md")
TEXTS = (page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = list(dict.fromkeys(block for text in TEXTS for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
FIRST_SCREEN = 40
"""Lines that a reader sees without scrolling, or nearly so."""


@pytest.mark.parametrize("source", BLOCKS, ids=lambda source: source.split("import ")[-1].split("\n")[0])
def test_a_python_block_runs(source: str) -> None:
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)
    results = [names[name] for name in ("y", "model") if name in names]
    assert results
    if "y" in names:
        assert names["y"].isfinite().all()


def test_the_first_screen_says_what_why_and_how() -> None:
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN])
    assert "Performance regression tests" in screen and "Why you would want it" in screen
    assert re.findall(r"^    (ci/\w+)", screen, re.MULTILINE) == ["ci/perf", "ci/test"]
