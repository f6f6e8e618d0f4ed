"""Real pytest runs in half the time: each is a process of its own, forked from one that has imported all it needs.

Starting the interpreter and importing pytest and the suite takes longer than a run on the no-op engine. Here one parent
does so once. It runs a small suite, so that what is imported late is there as well, and then forks for each run. A
child has its own folder, environment, arguments and files for what it prints, and shares nothing with later ones.

Run as a program, this is the parent. It reads one request a line from its standard input, as JSON, and answers each
with the exit status of the run.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WARM_UP = {
    "conftest.py": 'pytest_plugins = ["hybrid_ops.plugin"]\n',
    "test_suite.py": """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)
""",
    "config.json": '{"vocab_size": 100}',
    "zoo.yaml": """
schema_version: 1
models:
  steady: {architecture: none, config: config.json, engine: noop, platforms: [cpu]}
""",
    "workloads.yaml": """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
suites:
  quick: [steady/brief]
""",
}
"""A suite of one case. A run of it imports what a run of any other does."""
WARM_UP_ARGUMENTS = [
    "--perf",
    "--perf-device=cpu",
    "--perf-launches=1",
    "--perf-foreign-cpu=100%",
    "--perf-models=zoo.yaml",
    "--perf-workloads=workloads.yaml",
    "--junitxml=junit.xml",
    "-pno:cacheprovider",
]


class Parents:
    """The processes that fork. One starts at the first run and ends with the process that started it.

    A process reads where its libraries lie when it starts, so runs with another such path have a parent of their own.
    """

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def run(self, folder: Path, *arguments: str) -> pytest.RunResult:
        """What `pytest ARGUMENTS` in a folder prints, and its exit status."""
        files = [folder / f"forked-{name}.txt" for name in ("stdout", "stderr")]
        request = {
            "folder": str(folder),
            "environment": dict(os.environ),
            "arguments": [f"--basetemp={folder / 'basetemp'}", *arguments],
            "files": list(map(str, files)),
        }
        started = time.monotonic()
        status = self._ask(json.dumps(request))
        printed = [file.read_text(encoding="utf-8").splitlines() for file in files]
        for lines in printed:
            print(*lines, sep="\n")  # pytest shows it with a test that fails
        return pytest.RunResult(status, *printed, time.monotonic() - started)

    def _ask(self, request: str) -> int:
        libraries = os.environ.get("LD_LIBRARY_PATH", "")
        if libraries not in self._processes:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self._processes[libraries] = subprocess.Popen(
                [sys.executable, "-m", "tests.plugin.forked"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(self._processes[libraries].kill)
        process = self._processes[libraries]
        assert process.stdin is not None
        assert process.stdout is not None
        print(request, file=process.stdin, flush=True)
        answer = process.stdout.readline()
        assert answer, "the process that forks has ended; what it printed stands above"
        return int(answer)


PARENTS = Parents()


def serve() -> None:
    """Import everything, then make each run that is asked for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may stand between the answers
    _warm_up()
    assert threading.active_count() == 1, f"a fork would lose the threads {threading.enumerate()}"
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(**json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, file=answers, flush=True)


def _warm_up() -> None:
    from matplotlib.figure import Figure

    path, before = sys.path[:], Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in WARM_UP.items():
            (Path(folder) / name).write_text(text)
        os.chdir(folder)
        status = pytest.main([*WARM_UP_ARGUMENTS, f"--rootdir={folder}"])
        assert status == pytest.ExitCode.OK, f"the first run ended with {status}"
        Figure(layout="constrained").savefig("plot.png")  # a run with plots imports much of matplotlib at its end
        os.chdir(before)
        for name in [name for name, module in sys.modules.items() if _lies_in(module, folder)]:
            del sys.modules[name]  # a later run has files of the same names
    sys.path[:] = path


def _lies_in(module: Any, folder: str) -> bool:
    return (getattr(module, "__file__", None) or "").startswith(folder)


def _run(folder: str, environment: dict[str, str], arguments: list[str], files: list[str]) -> None:
    """Be the process of one run, from its beginning to its end."""
    status = 1
    try:
        for number, name in enumerate([os.devnull, *files]):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags), number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path.insert(0, folder)  # as python -m pytest does
        sys.argv = [pytest.__file__, *arguments]
        status = int(pytest.main(arguments))
        atexit._run_exitfuncs()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
