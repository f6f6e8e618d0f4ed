"""Hugging Face configurations: those of the zoo by name, any other by its path.

The zoo holds `config.json` contents: tiny models of each architecture, which run on any machine, and the full-size
models of the published tables. Each is checked against the parameter count of the module built from it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError

ZOO_FOLDER = Path(__file__).parent / "zoo"


def config_names() -> list[str]:
    """Names of the configurations of the zoo, sorted."""
    return sorted(path.stem for path in ZOO_FOLDER.glob("*.json"))


def find_config(name_or_path: str | Path) -> Path:
    """The file of a configuration: a name of the zoo, a JSON file, or a folder that holds a `config.json`.

    Raises InputError when there is none.
    """
    if str(name_or_path) in config_names():
        return ZOO_FOLDER / f"{name_or_path}.json"
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        return path
    raise InputError(f"{name_or_path}: no such file, and no such model in the zoo ({', '.join(config_names())})")


def load_config(name_or_path: str | Path) -> dict[str, Any]:
    """The contents of a configuration (`find_config` says where it is looked for).

    Raises InputError when it is missing, is not a JSON object, or names no `model_type`.
    """
    path = find_config(name_or_path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(config).__name__}")
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{path}: model_type: missing")
    return config
