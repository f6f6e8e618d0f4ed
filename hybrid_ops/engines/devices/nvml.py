"""NVML, asked one question at a time. A card may refuse any of them, and says why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class Refusal(Exception):
    """NVML does not answer. The message is its reason, such as `Not Supported`."""


@contextlib.contextmanager
def started() -> Iterator[None]:
    """NVML from its start to its end. Raises Refusal where it does not start, as on a machine without a driver."""
    ask("nvmlInit")
    try:
        yield
    finally:
        with contextlib.suppress(Refusal):
            ask("nvmlShutdown")


def ask(function: str, *arguments: Any) -> Any:
    """What a function of nvidia-ml-py answers. Raises Refusal."""
    import pynvml

    try:
        answer = getattr(pynvml, function)(*arguments)
    except pynvml.NVMLError as error:
        raise Refusal(str(error)) from None
    return answer.decode() if isinstance(answer, bytes) else answer
