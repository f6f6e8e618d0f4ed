"""The engines that the suite knows. (`engines/__init__.py` imports nothing, because workers import it too.)"""

from __future__ import annotations

from hybrid_ops.engines.engine import Engine
from hybrid_ops.engines.layers import Layers
from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.vllm_offline import VllmOffline
from hybrid_ops.engines.vllm_server import VllmServer
from hybrid_ops.errors import InputError

ENGINES: tuple[Engine, ...] = (VllmOffline(), VllmServer(), Layers(), Noop())
"""The engines that ship with the suite."""

_known: dict[str, Engine] = {engine.name: engine for engine in ENGINES}


def register(engine: Engine) -> None:
    """Make a further engine known by its name. Raises InputError for a name that another one has."""
    known = _known.setdefault(engine.name, engine)
    if type(known) is not type(engine):
        raise InputError(f"an engine is named {engine.name!r} already: {type(known).__module__}; rename one of them")


def find_engine(name: str, where: str) -> Engine:
    """The engine of this name. Raises InputError that names the place it stands in, such as a file and field."""
    if name not in _known:
        raise InputError(f"{where}: no engine is named {name!r}; there are {', '.join(_known)}")
    return _known[name]
