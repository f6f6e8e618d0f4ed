"""The parent's side of an engine worker: start it, ask it, and end it, whatever happens to it."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import hybrid_ops
from hybrid_ops.engines.answers import AnswerError, read_answer
from hybrid_ops.engines.protocol import PARENT, READ_DESCRIPTOR, WRITE_DESCRIPTOR, Operation, exceptions_in

AnswerT = TypeVar("AnswerT")

GRACE_SECONDS = 10.0
"""How long a worker that was told to end may take before it is killed."""
WORKER_IMPORTS = ("__init__.py", "engines", "layers")
"""What there is of this package on a worker's import path."""
INTERRUPT_SECONDS = 0.5
"""How long a wait for an answer may keep an interrupt waiting."""


def _user_name() -> str:
    """This user as torch names its folders: a container may be run under a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid_{os.getuid()}"


class WorkerError(Exception):
    """A worker failed, died or overran its deadline. The message is the engine's own reason; `log` tells the rest."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(" ".join(message.split()))  # one line, however many the engine's exception has
        self.log = log


class Worker:
    """One engine process in its own process group.

    Parameters
    ----------
    program: the worker program, run by its path; what it imports beside this package is its interpreter's
    folder: where its log is written; made if absent
    interpreter: the Python of the arm; this one by default
    environment: variables added to (or, when None, removed from) this process's own
    cores: the cores that it and all that it starts are bound to; those of this process where there are none
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        interpreter: str = sys.executable,
        environment: Mapping[str, str | None] | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "engine.log"
        self.engine = program.stem
        """Whom its errors name: the worker program, until whoever starts it says of which engine it is."""
        self.stage_seconds: Mapping[str, float] = {}
        """How long each stage may take that the worker announces."""
        # An engine that is killed leaves its temporary files. They get a folder of their own, of a short path because
        # sockets are made in it.
        self._temporary = Path(tempfile.mkdtemp(prefix="hybrid-ops-"))
        site = self._temporary / "site"
        write_import_path(site)
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        variables = {**os.environ, **(environment or {})}
        variables |= {
            "PYTHONPATH": os.pathsep.join([str(site), *_own_paths(variables.get("PYTHONPATH"))]),
            "TMPDIR": str(self._temporary),
            # What torch compiled is kept where torch keeps it by itself.
            "TORCHINDUCTOR_CACHE_DIR": variables.get("TORCHINDUCTOR_CACHE_DIR")
            or str(Path(tempfile.gettempdir(), f"torchinductor_{_user_name()}")),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            READ_DESCRIPTOR: str(request_read),
            WRITE_DESCRIPTOR: str(reply_write),
            PARENT: str(os.getpid()),
        }
        try:
            with self.log.open("ab") as log, _bound_to(cores):
                self.process = subprocess.Popen(
                    [interpreter, "-P", str(program)],  # -P: its folder is no place to import from
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={name: value for name, value in variables.items() if value is not None},
                    cwd=folder,
                    pass_fds=(request_read, reply_write),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(request_write)
            os.close(reply_read)
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise WorkerError(f"cannot start {interpreter}: {error.strerror or error}", self.log) from None
        finally:
            os.close(request_read)
            os.close(reply_write)
        self._requests = request_write
        self._replies = reply_read
        self._pending = b""

    def ask(self, operation: Operation[AnswerT], deadline_seconds: float, **arguments: Any) -> AnswerT:
        """Ask for one operation and return its answer; kill the worker if the deadline passes.

        Raises WorkerError with the engine's own reason, and for an answer that is not of the operation's type.
        """
        answer = self.request(operation.name, deadline_seconds, **arguments)
        try:
            return read_answer(operation.answer, answer)
        except AnswerError as error:
            raise WorkerError(f"{self.engine}: the answer to '{operation.name}' {error}", self.log) from None

    def request(self, operation: str, deadline_seconds: float, **arguments: Any) -> Any:
        """Ask for one operation and wait for its answer as JSON has it; kill the worker if the deadline passes.

        Raises WorkerError with the engine's own reason.
        """
        self.send(operation, **arguments)
        return self.receive(operation, deadline_seconds)

    def send(self, operation: str, **arguments: Any) -> None:
        """Ask for one operation, whose answer `receive` waits for. Raises WorkerError for a dead worker."""
        line = json.dumps({"operation": operation, "arguments": arguments}).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._requests, line) :]
        except BrokenPipeError:
            raise self._died(f"'{operation}'") from None

    def receive(self, operation: str, deadline_seconds: float) -> Any:
        """The answer to the operation that was sent. Raises WorkerError as `request` does."""
        reply = self._reply(operation, deadline_seconds)
        if "error" in reply:
            error = reply["error"]
            raise WorkerError(root_cause(f"{error['type']}: {error['message']}", self.log), self.log)
        return reply["result"]

    def _reply(self, operation: str, deadline_seconds: float) -> dict[str, Any]:
        """The answer. Each stage that the worker announces before it begins a deadline of its own."""
        during = f"'{operation}'"
        while "stage" in (line := json.loads(self._read_line(during, deadline_seconds))):
            deadline_seconds = self.stage_seconds.get(line["stage"], deadline_seconds)
            during = f"'{operation}' (stage '{line['stage']}')"
        return line

    def log_to(self, folder: Path) -> None:
        """Continue the log in `folder`; what was written so far moves there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = self.log.rename(folder / self.log.name)

    def _read_line(self, during: str, deadline_seconds: float) -> bytes:
        end = time.monotonic() + deadline_seconds
        while b"\n" not in self._pending:
            left = end - time.monotonic()
            if left > 0:
                # In slices: pytest-xdist ends a worker by an interrupt that Python sees only between system calls.
                if not select.select([self._replies], [], [], min(left, INTERRUPT_SECONDS))[0]:
                    continue
            else:
                self.kill()
                raise WorkerError(f"no answer to {during} within {deadline_seconds:.0f} s; killed", self.log)
            chunk = os.read(self._replies, 1 << 16)
            if not chunk:
                raise self._died(during)
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _died(self, during: str) -> WorkerError:
        """The worker's end of the pipe closed: say how it died, in the engine's own words where it left any."""
        try:
            code = self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self.process.returncode
        how = f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        if code == -signal.SIGKILL:
            how += " (the kernel's out-of-memory killer, or a person)"
        return WorkerError(root_cause(f"the engine process died during {during}: {how}", self.log), self.log)

    def close(self) -> None:
        """End the worker: ask, then insist. Nothing of its process group outlives this call."""
        for descriptor in (self._requests, self._replies):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_SECONDS)
        self.kill()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def kill(self) -> None:
        """Kill the whole process group now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, WorkerError):
            self.kill()  # an interrupt: do not wait for a polite end
        self.close()


@contextlib.contextmanager
def _bound_to(cores: Sequence[int]) -> Iterator[None]:
    """Bind this thread to `cores`, if there are any, while the block starts a process, which keeps them.

    Binding the process afterwards would be too late: what it imports makes threads by what it may use.
    """
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores or before)
        yield
    finally:
        os.sched_setaffinity(0, before)


def _own_paths(paths: str | None) -> list[str]:
    """The folders that the user put on a PYTHONPATH, which an arm may need to find its engine, as seen from here."""
    return [str(Path(path).absolute()) for path in (paths or "").split(os.pathsep) if path]


def write_import_path(folder: Path) -> None:
    """Make `folder` an import path of what a worker imports of this package, and of what announces its entry point.

    On PYTHONPATH it lets any interpreter, and every process that its engine spawns, find the workers and the vLLM
    plugin without anything being installed there, and without leaking this environment's other packages into it. The
    testcases are not in it: whoever collects tests in a folder above would find them a second time.
    """
    package = folder / "hybrid_ops"
    package.mkdir(parents=True, exist_ok=True)
    for name in WORKER_IMPORTS:
        if not (package / name).exists():
            (package / name).symlink_to(Path(hybrid_ops.__file__).parent / name)
    metadata = folder / f"hybrid_ops-{hybrid_ops.__version__}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: hybrid-ops\nVersion: {hybrid_ops.__version__}\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nhybrid_ops = hybrid_ops.engines.vllm_plugins:register\n", encoding="utf-8"
    )


def root_cause(message: str, log: Path) -> str:
    """`message`, with the last exception of the log added where it says more.

    An engine often reports a wrapper ("Engine core initialization failed. See root cause above.") and prints the
    real reason earlier.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return message
    found = exceptions_in(text)
    if found and found[-1] not in message:
        return f"{message} [last error in the log: {found[-1]}]"
    return message
