"""What `ci/mutation` runs: cosmic-ray's operators and sessions, with tests in forked children.

cosmic-ray finds the mutants, applies each on disk in a copy of the tree, and keeps the results in a database, so that
a run that was stopped goes on. mutmut 3 leaves out functions with a decorator, which here are all public ones.

A child that is forked from this process has torch, transformers and pytest loaded already, so that a mutant costs the
time of its tests and not their imports. The tests of the module's `first` run before its others, and the first failure
ends both.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "mutation_results"
EQUIVALENT = ROOT / "ci" / "equivalent-mutants.toml"
SEED = 19  # of the samples

Pending = tuple[str, MutationSpec]  # a job of the database and its mutation


@dataclass(frozen=True)
class Module:
    """A file whose mutants are run, and the tests that should notice them."""

    file: str
    first: tuple[str, ...]  # arguments of pytest: the quickest relevant ones
    tests: tuple[str, ...]  # arguments of pytest: all that are relevant


@dataclass(frozen=True)
class Share:
    """Which of a module's mutants are run."""

    shard: tuple[int, int] = (1, 1)  # every N-th, from the K-th
    sample: int | None = None  # so many, drawn at random, the same each time
    again: bool = False  # those that survived, to see whether new tests notice them

    def of(self, mutants: list[Pending], results: dict[str, WorkResult]) -> list[Pending]:
        """What is still to be run, in the order of the file."""
        chosen = mutants
        if self.sample is not None and self.sample < len(mutants):
            drawn = sorted(random.Random(SEED).sample(range(len(mutants)), self.sample))  # noqa: S311
            chosen = [mutants[place] for place in drawn]
        mine = chosen[self.shard[0] - 1 :: self.shard[1]]
        if self.again:
            return [(job, mutation) for job, mutation in mine if job in results and survived(results[job])]
        return [(job, mutation) for job, mutation in mine if job not in results]


@dataclass(frozen=True)
class Mutant:
    """A mutant, by what it changes."""

    file: str
    line: int
    operator: str
    occurrence: int
    old: str
    new: str


@dataclass
class Score:
    killed: int = 0
    equivalent: int = 0
    pending: int = 0
    survivors: tuple[Mutant, ...] = ()

    @property
    def share(self) -> str:
        """Of the mutants that have run and are not equivalent, how many were noticed.

        If some have not run, the 95 % interval (Wilson) of all mutants' share follows, as a random sample tells it.
        """
        judged = self.killed + len(self.survivors)
        if not judged:
            return "-"
        if not self.pending:
            return f"{self.killed / judged:.1%}"
        low, high = binomtest(self.killed, judged).proportion_ci(method="wilson")
        return f"{self.killed / judged:.1%} ({low:.1%} to {high:.1%})"


def settings() -> dict[str, Any]:
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    return tools["mutation"]


def modules_of(config: dict[str, Any], wanted: list[str]) -> list[Module]:
    """The modules of the configuration, in its order; raises SystemExit for a file that none of them is."""
    found = []
    for target in config["targets"]:
        for file in target["files"]:
            paths = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(file))
            found += [
                Module(path, *(tuple(config["options"] + target[part]) for part in ("first", "tests")))
                for path in paths
            ]
    if unknown := sorted(set(wanted) - {module.file for module in found}):
        sys.exit(f"ci/mutation: {unknown[0]}: no [[tool.mutation.targets]] of pyproject.toml has this file")
    return [module for module in found if not wanted or module.file in wanted]


def session_of(module: Module, operators: list[str]) -> Path:
    """The database of a module's mutants; a new one where the file, or what is mutated in it, has changed."""
    content = (ROOT / module.file).read_text(encoding="utf-8") + "\n".join(operators)
    mark = hashlib.sha256(content.encode()).hexdigest()[:12]
    name = module.file.removesuffix(".py").replace("/", ".")
    path = FOLDER / "sessions" / f"{name}.{mark}.sqlite"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        with use_db(unfinished) as database:
            # cosmic-ray writes paths as they are given, and they must mean the file in a copy too.
            init([Path(module.file)], database, {})
        unfinished.replace(path)
    return path


def annotations(file: str) -> set[tuple[int, int]]:
    """(line, column) of every token of a type annotation: mutants there change no result."""
    places: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        hints = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for hint in hints:
            if isinstance(hint, ast.expr) and hint.end_lineno is not None and hint.end_col_offset is not None:
                for line in range(hint.lineno, hint.end_lineno + 1):
                    start = hint.col_offset if line == hint.lineno else 0
                    end = hint.end_col_offset if line == hint.end_lineno else 1000
                    places |= {(line, column) for column in range(start, end)}
    return places


def mutants_of(module: Module, database: WorkDB, operators: list[str]) -> list[Pending]:
    """(job, mutation) of what is run, in the order of the file, the same each time."""
    hints = annotations(module.file)
    chosen = [
        (item.job_id, item.mutations[0])
        for item in database.work_items
        if any(re.fullmatch(pattern, item.mutations[0].operator_name.removeprefix("core/")) for pattern in operators)
        and tuple(item.mutations[0].start_pos) not in hints
    ]
    return sorted(chosen, key=lambda entry: (entry[1].start_pos, entry[1].operator_name, entry[1].occurrence))


def difference(original: str, mutated: str) -> tuple[str, str]:
    """The lines that differ, without indentation: (before, after)."""
    before, after = original.splitlines(), mutated.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return "\n".join(line.strip() for line in before), "\n".join(line.strip() for line in after)


def applied(mutation: MutationSpec) -> Any:
    """cosmic-ray's context in which the file of the current folder is mutated; gives the code before and after."""
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)(**mutation.operator_args)
    return use_mutation(mutation.module_path, operator, mutation.occurrence)


def in_a_child(arguments: list[str], log: Path, limit: float, bytecode: bool) -> int | None:
    """The exit status of pytest in a forked child, or None if it took longer than the limit.

    Bytecode is written without a mutant only: files that are then mutated are newer than theirs.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        here = str(Path.cwd())
        sys.path[:] = [here, *(entry for entry in sys.path if entry not in ("", str(ROOT), str(ROOT / "ci")))]
        os.environ["PYTHONPATH"] = here
        sys.dont_write_bytecode = not bytecode
        status = 1
        try:
            import pytest

            status = int(pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *arguments]))
        finally:
            os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def noticed(module: Module, log: Path, limit: float, bytecode: bool = False) -> str:
    """`killed`, `timeout` or `survived`."""
    for arguments in (module.first, module.tests):
        status = in_a_child(list(arguments), log, limit, bytecode)
        if status is None:
            return "timeout"
        if status not in (0, 5):  # 5: -k chose none
            return "killed"
    return "survived"


def copy_of_the_tree() -> Path:
    """What git knows of the tree, copied to a place where it may be mutated."""
    copy = FOLDER / f"tree-{os.getpid()}"
    shutil.rmtree(copy, ignore_errors=True)
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


def run(modules: list[Module], config: dict[str, Any], share: Share, end: float) -> None:
    """Run what is pending of a share, until the time is over."""
    for name in config["preload"]:
        importlib.import_module(name)
    operators, copy = config["operators"], copy_of_the_tree()
    limits: dict[tuple[Any, ...], float] = {}
    log = FOLDER / f"log-{os.getpid()}.txt"
    os.chdir(copy)
    try:
        for module in modules:
            with use_db(session_of(module, operators)) as database:
                run_module(module, database, operators, share, end, log, limits)
    finally:
        os.chdir(ROOT)
        shutil.rmtree(copy)
        log.unlink(missing_ok=True)


def survived(result: WorkResult) -> bool:
    return bool(result.test_outcome == TestOutcome.SURVIVED)


def run_module(
    module: Module,
    database: WorkDB,
    operators: list[str],
    share: Share,
    end: float,
    log: Path,
    limits: dict[tuple[Any, ...], float],
) -> None:
    """Run a module's part of a share; `limits` keeps how long its tests may take, by the tests."""
    pending = share.of(mutants_of(module, database, operators), dict(database.results))
    if not pending or time.monotonic() > end:
        return
    tests = (module.first, module.tests)
    if tests not in limits:
        start = time.monotonic()
        if (outcome := noticed(module, log, 1800, bytecode=True)) != "survived":
            tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            sys.exit(f"ci/mutation: the tests of {module.file} fail without a mutant ({outcome}):\n{tail}")
        limits[tests] = 60 + 4 * (time.monotonic() - start)
    for number, (job, mutation) in enumerate(pending, 1):
        if time.monotonic() > end:
            return
        with applied(mutation) as (original, mutated):
            outcome = noticed(module, log, limits[tests])
        old, new = difference(original, mutated)
        place = f"{module.file}:{mutation.start_pos[0]}"
        print(f"{number}/{len(pending)} {outcome:8} {place}: {old!r} -> {new!r}", flush=True)
        database.set_result(
            job,
            WorkResult(
                worker_outcome=WorkerOutcome.NORMAL,
                output=outcome,
                test_outcome=TestOutcome.SURVIVED if outcome == "survived" else TestOutcome.KILLED,
                diff=f"{old}\n=====\n{new}",
            ),
        )


def key_of(file: str, old: str, new: str) -> tuple[str, str, str]:
    """A mutant without its blanks, as cosmic-ray writes some that nobody would."""
    return file, "".join(old.split()), "".join(new.split())


def equivalent() -> dict[tuple[str, str, str], str]:
    """The reason of each mutant that changes no result."""
    rows = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("mutant", [])
    return {key_of(row["file"], row["old"], row["new"]): row["reason"] for row in rows}


def scores(modules: list[Module], operators: list[str]) -> Iterator[tuple[Module, Score]]:
    reasons = equivalent()
    for module in modules:
        score = Score()
        with use_db(session_of(module, operators)) as database:
            results = dict(database.results)
            for job, mutation in mutants_of(module, database, operators):
                result = results.get(job)
                if result is None or result.diff is None:
                    score.pending += 1
                    continue
                old, new = result.diff.split("\n=====\n")
                if result.test_outcome == TestOutcome.KILLED:
                    score.killed += 1
                elif key_of(module.file, old, new) in reasons:
                    score.equivalent += 1
                else:
                    name = mutation.operator_name.removeprefix("core/")
                    mutant = Mutant(module.file, mutation.start_pos[0], name, mutation.occurrence, old, new)
                    score.survivors += (mutant,)
        yield module, score


def report(modules: list[Module], operators: list[str]) -> int:
    """Print the score and the survivors; 1 if there is one that no test kills and no reason explains."""
    print("| module | killed | survived | equivalent | not run | score |\n|---|---|---|---|---|---|")
    survivors: list[Mutant] = []
    total = Score()
    for module, score in scores(modules, operators):
        rest = f"{len(score.survivors)} | {score.equivalent} | {score.pending} | {score.share}"
        print(f"| {module.file} | {score.killed} | {rest} |")
        survivors += score.survivors
        total.killed, total.equivalent = total.killed + score.killed, total.equivalent + score.equivalent
        total.pending += score.pending
    total.survivors = tuple(survivors)
    rest = f"{len(survivors)} | {total.equivalent} | {total.pending} | {total.share}"
    print(f"| all | {total.killed} | {rest} |")
    for mutant in survivors:
        print(f"\n{mutant.file}:{mutant.line} survived ({mutant.operator})\n  - {mutant.old}\n  + {mutant.new}")
    return 1 if survivors else 0


def shard_of(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard such as 2/8")
    return int(match[1]), int(match[2])


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/mutation", description="Mutate modules and see whether tests notice.")
    parser.add_argument("files", nargs="*", help="modules; all of [tool.mutation] by default")
    parser.add_argument(
        "--shard", type=shard_of, default=(1, 1), metavar="K/N", help="every N-th mutant, from the K-th"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants of each module, the same each time")
    parser.add_argument("--again", action="store_true", help="run what survived, with the tests as they are now")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    config = settings()
    modules = modules_of(config, options.files)
    os.chdir(ROOT)
    if not options.report:
        share = Share(options.shard, options.sample, options.again)
        run(modules, config, share, time.monotonic() + 60 * options.minutes)
    return report(modules, config["operators"])


if __name__ == "__main__":
    sys.exit(main())
