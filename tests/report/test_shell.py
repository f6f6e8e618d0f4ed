"""A long command over several lines is the same command to a shell."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from hybrid_ops.report.shell import shell_lines

CASES = " or ".join(f"nemotron-h-tiny-{number}/hybrid-attention-{number}" for number in range(8))
WORDS = [
    ["pytest", "--perf"],
    ["pytest", "--perf", "--perf-baselines=a folder", "--perf-models=" + "x" * 60, "--perf-suite=full", "-k", CASES],
    ["pytest", "-k", "(a and b) or 'c'", "-m", f'not "gpu" and ({CASES})', "--perf-set", "arg.note=$HOME `id` \\"],
    ["pytest", "-k", CASES, "--perf-results=" + "y" * 200],
]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("width", [60, 96])
def test_a_shell_reads_the_lines_as_the_command(words: list[str], width: int) -> None:
    lines = shell_lines(shlex.join(words), width)
    assert all(len(line) <= max(width, *map(len, words)) for line in lines)
    assert len(lines) == 1 or max(map(len, lines)) <= width or any(len(word) > width for word in words)
    script = "\n    ".join(lines).replace("pytest", "printf '%s\\0'", 1)  # indented, as the terminal shows it
    read = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    assert [" ".join(word.split()) if " or " in word else word for word in read] == words[1:]


def test_a_short_command_is_left_as_it_is() -> None:
    assert shell_lines("pytest --perf -k a/b", 96) == ["pytest --perf -k a/b"]
