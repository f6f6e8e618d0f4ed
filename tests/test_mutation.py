"""`ci/mutation` on a small project of its own: shards, resuming, the score, survivors and reasons."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    "pyproject.toml": """
[tool.mutation]
options = []
preload = ["pytest"]
operators = ["ReplaceBinaryOperator_Mul_Div", "ReplaceComparisonOperator_(Gt_GtE|Gt_LtE)", "NumberReplacer"]
[[tool.mutation.targets]]
files = ["numbers_of/*.py"]
first = ["test_numbers.py", "-k", "double"]
tests = ["test_numbers.py"]
""",
    "numbers_of/signs.py": """
def double(x: int) -> int:
    return 2 * x


def positive(x: int) -> bool:
    return x > 0
""",
    "test_numbers.py": """
from linked.signs import double
from numbers_of.signs import positive


def test_double():
    assert double(3) == 6


def test_positive():
    assert positive(5) and not positive(-5)
""",
    "ci/equivalent-mutants.toml": "",
    ".gitignore": "mutation_results/\n",
}
REASON = """
[[mutant]]
file = "numbers_of/signs.py"
old = "return x > 0"
new = "return x >= 0"
reason = "nobody asks about zero"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "ci" / "mutation.py", tmp_path / "ci")
    (tmp_path / "linked").symlink_to("numbers_of")  # a link to a folder is a file to git
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def mutation(project: Path, *words: str) -> tuple[int, str]:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": ""}
    command = [sys.executable, "ci/mutation.py", *words]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def row(output: str) -> list[str]:
    [line] = [line for line in output.splitlines() if line.startswith("| numbers_of/signs.py")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.long
def test_shards_go_on_where_they_stopped_and_survivors_need_a_reason(project):
    code, output = mutation(project, "--report")
    assert (code, row(output)) == (0, ["0", "0", "0", "7", "-"])
    code, output = mutation(project, "--shard", "1/2")
    assert row(output)[3] == "3"  # every second one of seven has run
    code, output = mutation(project)
    assert "4/4" not in output and "3/3" in output  # only what was left
    assert (code, row(output)) == (1, ["4", "3", "0", "0", "57.1%"])
    assert "- return x > 0\n  + return x >= 0" in output
    assert (project / "numbers_of/signs.py").read_text() == FILES["numbers_of/signs.py"]

    (project / "ci/equivalent-mutants.toml").write_text(REASON)
    code, output = mutation(project, "--report")
    assert (code, row(output)) == (1, ["4", "2", "1", "0", "66.7%"])
    (project / "numbers_of/signs.py").write_text("def positive(x: int) -> bool:\n    return x > 0\n")
    assert row(mutation(project, "--report")[1])[3] == "4"  # another file has other mutants


@pytest.mark.long
def test_a_sample_is_the_same_each_time_and_survivors_are_run_again(project):
    code, output = mutation(project, "--sample", "5")
    assert "5/5" in output and row(output)[3] == "2"
    killed, survived, _, _, score = row(output)
    share = int(killed) / (int(killed) + int(survived))
    low, high = (float(bound) / 100 for bound in re.findall(r"([\d.]+)%", score)[1:])
    assert low < share < high
    tests = (project / "test_numbers.py").read_text()
    (project / "test_numbers.py").write_text(
        tests + "\n\ndef test_one():\n    assert positive(1) and not positive(0)\n"
    )
    code, output = mutation(project, "--again")
    assert f"{survived}/{survived} killed" in output
    assert (code, row(output)) == (0, ["5", "0", "0", "2", row(output)[4]])
    again = mutation(project, "--sample", "5")[1]
    assert "/5 killed" not in again and "/5 survived" not in again, "nothing is left of it"


def test_what_cannot_be_run_is_said_in_a_line(project):
    assert "numbers_of/other.py: no [[tool.mutation.targets]]" in mutation(project, "numbers_of/other.py")[1]
    assert "'3/2' is not a shard" in mutation(project, "--shard", "3/2")[1]
    (project / "test_numbers.py").write_text("def test_double():\n    assert False\n")
    code, output = mutation(project)
    assert code != 0
    assert "the tests of numbers_of/signs.py fail without a mutant" in output


def test_reasons_are_of_lines_that_exist():
    rows = tomllib.loads((ROOT / "ci" / "equivalent-mutants.toml").read_text(encoding="utf-8")).get("mutant", [])
    for mutant in rows:
        lines = [line.strip() for line in (ROOT / mutant["file"]).read_text(encoding="utf-8").splitlines()]
        assert mutant["old"].splitlines()[0] in lines, mutant
        assert mutant["reason"]
