"""The engine worker's side of the conversation: JSON lines on a pipe of its own.

A worker is its own process under the interpreter of its arm. It imports the standard library and its engine, never
the rest of this package, so any virtual environment that holds the engine can run it. Whatever the engine prints
goes to the log that the parent opened as standard output; the conversation has its own two file descriptors.

Request: `{"operation": str, "arguments": object}`. Reply: `{"result": object}` or
`{"error": {"type": str, "message": str, "traceback": str}}`. One reply to each request, in order. Every worker answers
`ready`, with null, as soon as it serves. The end of the request pipe ends the worker.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

READ_DESCRIPTOR = "HYBRID_OPS_WORKER_READ"
WRITE_DESCRIPTOR = "HYBRID_OPS_WORKER_WRITE"
PARENT = "HYBRID_OPS_WORKER_PARENT"


def serve(operations: dict[str, Callable[..., Any]]) -> None:
    """Answer requests until the parent closes the pipe.

    `operations` maps an operation's name to a function of the request's arguments; its return value must be JSON.
    An exception is an answer too: the parent decides whether the worker goes on.
    """
    die_with_parent(_parent_death_signal)
    requests = os.fdopen(int(os.environ.pop(READ_DESCRIPTOR)), encoding="utf-8")
    replies = os.fdopen(int(os.environ.pop(WRITE_DESCRIPTOR)), "w", encoding="utf-8")
    operations = {"ready": _ready, **operations}
    for line in requests:
        request = json.loads(line)
        try:
            reply = {"result": operations[request["operation"]](**request["arguments"])}
        except Exception as error:
            traceback.print_exc()
            reply = {
                "error": {
                    "type": type(error).__name__,
                    "message": str(error),
                    "traceback": traceback.format_exc(),
                }
            }
        sys.stdout.flush()
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _ready() -> None:
    """The answer to `ready`: whatever the worker does before it serves is done."""


_parent_death_signal = signal.SIGKILL


def end_group_with_parent() -> None:
    """Before `serve`: have the parent's death end this process's whole group, for workers that start processes.

    Linux signals only the process that asked for it, so that one passes it on.
    """
    global _parent_death_signal
    _parent_death_signal = signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda number, frame: os.killpg(0, signal.SIGKILL))


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Have Linux signal this process when its parent dies, so that a killed test run leaves no engine behind."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG, <linux/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, how)
    if os.getppid() != int(os.environ.pop(PARENT)):
        sys.exit("the parent died before this worker began")


_EXCEPTION = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): ?(.*)")


def exceptions_in(log: str, following_lines: int = 0) -> list[str]:
    """The exceptions that a log shows, in order, as `Type: message`.

    `following_lines` adds so many of the lines after each, where a message goes on.
    """
    lines = log.splitlines()
    found = []
    for number, line in enumerate(lines):
        if (match := _EXCEPTION.search(line)) and not line.lstrip().startswith("raise "):
            rest = [text.strip() for text in lines[number + 1 : number + 1 + following_lines]]
            found.append(" ".join(filter(None, [f"{match[1].rpartition('.')[2]}: {match[2]}".strip(), *rest])))
    return found
