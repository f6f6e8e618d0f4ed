"""Every command line that the README and docs/ show is accepted by the parser of its program."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from hybrid_ops.cli import build_parser
from tests.docs.pages import PAGES, ROOT, block_lines, rendered

PROGRAM = re.compile(r"(?:[A-Z_]+=\S* )*(?:hybrid-perf |pytest |ci/[a-z])")
"""How a line of code begins that shows a command of ours; variables may be set before it."""
SCRIPTS = {
    "ci/perf": ["pytest", "--perf"],
    "ci/test": ["pytest"],
    "ci/nightly": ["hybrid-perf", "night"],
    "ci/gpu": ["hybrid-perf", "gpu"],
}
"""The scripts that pass their arguments on, and what to."""
SHELL = {"|", ">", ">>", "&&", ";"}
LEFT_OUT = re.compile(r"\.\.\.|…|^\[|\]$")
"""What marks a line as a form: words are left out, or may be."""
FINE, BAD_USAGE, NOTHING_SELECTED = 0, 4, 5


@dataclass(frozen=True)
class Shown:
    """A command line on a page."""

    page: str
    line: str
    words: tuple[str, ...]
    is_form: bool
    """Whether it only names things: within a sentence, or with words left out. Then its options must be known."""

    @property
    def options(self) -> list[str]:
        """The options that it names, without those behind `--`."""
        return re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(self.words[1:]).partition(" -- ")[0])


def shown_commands() -> Iterator[Shown]:
    """Every command line of ours, as the words that its program gets; those of a script as what it passes on."""
    for page in PAGES:
        blocks = [(line.removeprefix("$ "), False) for line in block_lines(page)]
        for line, is_inline in [*blocks, *((text, True) for text in rendered(page).inline)]:
            if not PROGRAM.match(line):
                continue
            words = shlex.split(line, comments=True)
            while re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            ends = [index for index, word in enumerate(words) if word in SHELL]
            words = words[: ends[0]] if ends else words
            whole = (*SCRIPTS.get(words[0], words[:1]), *words[1:])
            yield Shown(str(page.relative_to(ROOT)), line, whole, is_inline or any(map(LEFT_OUT.search, words)))


COMMANDS = list(dict.fromkeys(shown_commands()))


def of(program: str) -> list[Shown]:
    return [one for one in COMMANDS if one.words[0] == program]


def test_enough_is_found() -> None:
    assert len(of("pytest")) > 60 and len(of("hybrid-perf")) > 50
    assert {"ci/accept-baselines", "ci/pull-request"} <= {one.words[0] for one in COMMANDS}


def test_every_script_is_there() -> None:
    lines = [line for page in PAGES for line in (*block_lines(page), *rendered(page).inline)]
    names = {match.group() for match in (re.match(r"ci/[\w./-]*\w", line) for line in lines) if match is not None}
    assert len(names) > 10
    assert sorted(name for name in names if not (ROOT / name).exists()) == []
    run = {one.words[0] for one in COMMANDS if one.words[0].startswith("ci/") and len(one.words) > 1}
    assert sorted(name for name in run if not os.access(ROOT / name, os.X_OK)) == []


def refusal(words: Sequence[str]) -> str | None:
    """Why the parser of `hybrid-perf` does not take these words; None if it does."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            build_parser().parse_args(words)
        except SystemExit as ended:
            return said.getvalue() if ended.code else None
    return None


def unknown_options(one: Shown) -> list[str]:
    """The options of a form that the help of its command does not name."""
    said = io.StringIO()
    subcommand = [word for word in one.words[1:3] if re.fullmatch("[a-z]+", word)]
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        build_parser().parse_args([*subcommand, "--help"])
    return [name for name in one.options if name not in re.findall(r"--[a-z][a-z-]*", said.getvalue())]


@pytest.mark.parametrize("one", of("hybrid-perf"), ids=lambda one: one.line)
def test_hybrid_perf_takes_it(one: Shown) -> None:
    if one.is_form:
        assert unknown_options(one) == [], one.page
    else:
        assert refusal(one.words[1:]) is None, one.page


def test_what_is_wrong_would_be_refused() -> None:
    assert "unrecognized arguments: --nope" in (refusal(["cost", "llama-tiny", "--nope"]) or "")
    assert unknown_options(Shown("", "", ("hybrid-perf", "cost", "[--nope]"), True)) == ["--nope"]


def run_by_pytest() -> list[Shown]:
    """The command lines that pytest is given; the whole of `ci/test` runs anyway, with these tests in it."""
    return [one for one in of("pytest") if not one.is_form and len(one.words) > 1]


@pytest.fixture(scope="module")
def read_by_pytest() -> dict[tuple[str, ...], tuple[int, str]]:
    """How each command line of pytest ended that is no form: its status, and what was said."""
    asked = {one.words: as_asked(one.words[1:]) for one in run_by_pytest()}
    asked[("wrong",)] = as_asked(["--perf", "--perf-nope"])
    asked[("empty",)] = as_asked(["--perf", "-k", "no-such-model"])
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.collect"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, input=json.dumps(list(asked.values())),
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    return dict(zip(asked, map(tuple, json.loads(done.stdout))))


def as_asked(words: Sequence[str]) -> list[str]:
    """The words, and where the performance tests are, so that no other test is imported for nothing."""
    has_place = any((ROOT / word).exists() for word in words if not word.startswith("-")) or "--pyargs" in words
    is_perf = any(word in ("--perf", "--update-baselines") for word in words)
    return [*words, "tests/perf"] if is_perf and not has_place else list(words)


def missing_files(words: Sequence[str]) -> list[str]:
    """What a command line names and this checkout has not: a reader's own files."""
    pieces = [piece for word in words for piece in word.split("=")]
    return [piece for piece in pieces if re.search(r"[./]", piece) and not (ROOT / piece).exists()]


@pytest.mark.long
@pytest.mark.parametrize("one", run_by_pytest(), ids=lambda one: one.line)
def test_pytest_takes_it(one: Shown, read_by_pytest: dict[tuple[str, ...], tuple[int, str]]) -> None:
    status, said = read_by_pytest[one.words]
    if status == BAD_USAGE and any(name in said for name in missing_files(one.words)):
        return  # it was read up to a file that only the reader has
    if status == NOTHING_SELECTED and ("needs a GPU" in said or "-m gpu" in one.line):
        return  # without a GPU there is no such case
    assert status == FINE, f"{one.page}: {said}"


def test_options_that_pytest_is_said_to_have_are_there(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["hybrid_ops.plugin", "pytester"]')
    known = re.findall(r"--[a-z][a-z-]*", pytester.runpytest_subprocess("--help").stdout.str())
    unknown = {one.line: set(one.options) - set(known) for one in of("pytest") if one.is_form}
    assert len(unknown) > 5 and {line: names for line, names in unknown.items() if names} == {}


@pytest.mark.long
def test_what_is_wrong_or_selects_nothing_would_be_seen(
    read_by_pytest: dict[tuple[str, ...], tuple[int, str]],
) -> None:
    assert read_by_pytest[("wrong",)][0] == BAD_USAGE
    assert read_by_pytest[("empty",)][0] == NOTHING_SELECTED
