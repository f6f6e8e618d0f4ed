"""Whom a layer can be compared with here, for a planner that imports neither torch nor any peer."""

from __future__ import annotations

from hybrid_ops.engines.layer_bench.cases import contenders


def installed_peers(layer: str, direction: str, platform: str) -> list[str]:
    """The contenders beside "ours" that take part in a case under this interpreter.

    Asks only which files are installed, so that a peer may still fail to load: then the worker refuses it.

    Args:
        layer: a layer of `cases.LAYERS`.
        direction: "forward" or "backward".
        platform: "cpu" or "cuda".

    Returns:
        Their names, in the order of the layer's file.

    Raises:
        ValueError: the layer or direction is not known.
    """
    return [contender.name for contender in contenders(f"{layer}/{direction}", platform) if contender.name != "ours"]
