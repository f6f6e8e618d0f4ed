from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_server import VllmServer
from hybrid_ops.models.zoo import ModelEntry

FAKE_SERVER = Path(__file__).with_name("fake_server.py")
FAKE_COMMAND = ("{python}", str(FAKE_SERVER), "--port", "{port}", "--name", "{name}")


def fake_engine(start: str) -> EngineSpec:
    """A spec whose server is the fake one, started in the given way."""
    command = (*FAKE_COMMAND, "--start", start)
    entry = ModelEntry(architecture="none", config="zoo/llama-tiny.json", server_command=command)
    return EngineSpec("fake", entry, "cpu", VllmServer())


@pytest.fixture
def nothing_left() -> Callable[[Path], None]:
    """Assert that no process of a launch is left, and that its server's port is free."""

    def check(folder: Path) -> None:
        assert processes_under(folder) == []
        [port] = re.findall(r"fake server on port (\d+)", (folder / "server.log").read_text())
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0, f"something answers on port {port}"

    return check


def processes_under(folder: Path) -> list[str]:
    """Command lines of the processes whose working directory is in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
