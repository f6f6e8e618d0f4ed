"""Sentences and commands fit into a terminal, and a command of several lines is the command."""

from __future__ import annotations

import shlex

from hybrid_ops.report.render import WIDTH, section_markdown, terminal_lines
from hybrid_ops.report.report import Command, Lines, Section

COMMAND = (
    "pytest --perf --perf-suite llama-bench -p no:anyio --perf-results=/var/lib/performance/results "
    "-k '(qwen3.5-tiny and llama-bench-no-fa/pp512) or (qwen3.5-tiny and llama-bench/tg128)'"
)


def lines(*blocks: Lines | Command) -> list[str]:
    return [line for line, _ in terminal_lines(Section("told", blocks), is_verbose=False)]


def test_a_long_sentence_is_wrapped_and_a_path_is_not() -> None:
    path = "    engine log: " + "/a_folder" * 20
    told = lines(Lines(["a word " * 40, path]))
    assert told[-1] == path
    assert len(told) > 2 and all(len(line) <= WIDTH for line in told[:-1])


def test_a_shell_reads_the_lines_of_a_command_as_the_command() -> None:
    first, *command = lines(Command("measure again", COMMAND))
    assert first == "    measure again:"
    assert len(command) > 1 and all(len(line) <= WIDTH for line in command)
    assert shlex.split("\n".join(command).replace("\\\n", "")) == shlex.split(COMMAND)
    assert lines(Command("measure again", "pytest --perf -k a")) == ["    measure again: pytest --perf -k a"]


def test_markdown_has_a_command_in_one_piece() -> None:
    assert section_markdown(Section("told", [Command("accept", COMMAND)])) == f"  accept: `{COMMAND}`"
