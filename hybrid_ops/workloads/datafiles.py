"""Files of prompts and conversations: where they lie and what is in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hybrid_ops.workloads.conversations import DATA_FOLDER, load_conversations, write_conversations


def find_data_file(name: str, folder: Path | None) -> Path:
    """The data file called `name`: in `folder` if it is there, else among the shipped ones, else where it belongs."""
    candidates = [base / name for base in (folder, DATA_FOLDER) if base is not None]
    return next((path for path in candidates if path.is_file()), candidates[0])


def fingerprint(path: Path) -> str:
    """A hash of a file's content, `missing` if there is none. Large files are read once in a process."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return _hash(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _hash(path: Path, modified: int, size: int) -> str:
    """`modified` and `size` are there to tell versions of the file apart."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class UsableData:
    """A data file as a load generator can read it."""

    path: Path | None
    note: str | None = None
    """What was left out of it."""


@lru_cache(maxsize=16)
def usable_data(path: Path, folder: Path) -> UsableData:
    """A ShareGPT file if it is whole, else a copy in `folder` of what is. Raises InputError."""
    loaded = load_conversations(path)
    if not loaded.dropped:
        return UsableData(path)
    copy = folder / path.name
    write_conversations(copy, loaded.conversations)
    return UsableData(copy, f"{path.name}: {loaded.describe()}")
