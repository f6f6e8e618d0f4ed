"""Whether launches that run side by side on this machine disturb each other's times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.measure.store import write_json

ISOLATION_FILE = "isolation.json"
"""Beside the baselines of the device class that was looked at."""
ISOLATION_SCHEMA_VERSION = 1


def undisturbed_classes(baselines: Path) -> frozenset[str]:
    """The device classes whose launches were seen not to disturb each other. Raises InputError."""
    return frozenset(path.parent.name for path in baselines.glob(f"*/{ISOLATION_FILE}") if _is_undisturbed(path))


def _is_undisturbed(path: Path) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found, verdict = document["schema"], document["undisturbed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not an isolation file ({error!r}): remove it, or run hybrid-perf isolation"
        ) from None
    if found != ISOLATION_SCHEMA_VERSION:
        raise InputError(f"{path}: schema: this release reads {ISOLATION_SCHEMA_VERSION}, not {found!r}")
    return verdict is True


def write_isolation(path: Path, is_undisturbed: bool, details: Mapping[str, Any]) -> None:
    """Write what was found, for the runs that follow."""
    write_json(path, {"schema": ISOLATION_SCHEMA_VERSION, "undisturbed": is_undisturbed, **details})
