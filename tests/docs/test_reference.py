"""The pages of docs/reference/ are those that the code makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci import reference
from hybrid_ops.regression.verdicts import Verdict


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return reference.pages()


def test_each_page_is_that_of_the_code(made: dict[str, str]) -> None:
    stored = {path.name: path.read_text(encoding="utf-8") for path in reference.FOLDER.glob("*.md")}
    assert stored == made, "make the pages anew: ci/reference"


def test_nothing_is_left_without_a_word(made: dict[str, str]) -> None:
    assert set(reference.field_docs(Verdict)) == {verdict.name for verdict in Verdict}
    for name in ("options.md", "commands.md", "metrics.md"):
        rows = [row for row in made[name].splitlines() if row.startswith("| `")]
        assert rows and [row for row in rows if row.endswith("|  |")] == []


def test_pytest_lists_the_same_options(pytester: pytest.Pytester, made: dict[str, str]) -> None:
    pytester.makeconftest('pytest_plugins = ["hybrid_ops.plugin"]')
    shown = pytester.runpytest_subprocess("--help").stdout.str()
    listed = [row.split("`")[1].split()[0] for row in made["options.md"].splitlines() if row.startswith("| `")]
    assert len(listed) > 20 and [name for name in listed if name not in shown] == []


def test_the_command_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: dict[str, str]) -> None:
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    reference.main()
    assert {path.name for path in (tmp_path / "reference").iterdir()} == set(made)
