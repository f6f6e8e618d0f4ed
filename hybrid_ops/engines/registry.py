"""The engines that the suite knows. (`engines/__init__.py` imports nothing, because workers import it too.)"""

from __future__ import annotations

from hybrid_ops.engines.engine import Engine
from hybrid_ops.engines.layers import Layers
from hybrid_ops.engines.llama_bench import LlamaBench
from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.training import Training
from hybrid_ops.engines.vllm_offline import VllmOffline
from hybrid_ops.engines.vllm_server import VllmServer
from hybrid_ops.errors import InputError
from hybrid_ops.known import Known

ENGINES: tuple[Engine, ...] = (VllmOffline(), VllmServer(), Layers(), LlamaBench(), Training(), Noop())
"""The engines that ship with the suite."""

KNOWN = Known("an engine", ENGINES)
"""Those and the registered ones."""


def register(engine: Engine) -> None:
    """Make a further engine known by its name."""
    KNOWN.register(engine)


def find_engine(name: str, where: str) -> Engine:
    """The engine of this name. Raises InputError that names the place it stands in, such as a file and field."""
    engine = KNOWN.get(name)
    if engine is None:
        raise InputError(f"{where}: no engine is named {name!r}; there are {', '.join(one.name for one in KNOWN)}")
    return engine
