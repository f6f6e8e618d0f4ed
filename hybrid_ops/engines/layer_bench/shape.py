"""The sizes of all cases, from the folder that a launch names as its model."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

MODEL_TYPE = "layers"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Shape:
    """How large the tensors of a case are. Keys and values, SSD states and heads all have `head_size` channels."""

    batch: int = 1
    tokens: int = 2048
    heads: int = 8
    head_size: int = 64
    window: int = 512
    """Keys that a query of the sliding window sees, itself among them."""
    state_size: int = 16
    """States a channel of the selective scan, which has heads · head_size channels."""
    prefix: int = 256
    """Keys that every query of the prefix-LM sees."""
    documents: int = 12
    """Documents that a sequence of the document mask is made of, of random lengths."""
    dtype: str = "float32"
    """The type of the inputs, but for the gates of a layer."""

    def __post_init__(self) -> None:
        for name, size in dataclasses.asdict(self).items():
            if name != "dtype" and (type(size) is not int or size < 1):
                raise ValueError(f"{name}: expected a positive integer, got {size!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")

    def with_tokens(self, tokens: int) -> Shape:
        """The same sizes for sequences of another length."""
        return dataclasses.replace(self, tokens=tokens)


def read_shape(folder: Path) -> Shape:
    """The shape in `folder`/config.json: an object with `"model_type": "layers"` and all the fields of `Shape`.

    Raises:
        OSError: there is no such file.
        ValueError: a field is missing, unknown or of a wrong value; the message names the file and the field.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.pop("model_type", None) != MODEL_TYPE:
        raise ValueError(f'{path}: model_type: expected "{MODEL_TYPE}"')
    names = [field.name for field in dataclasses.fields(Shape)]
    if wrong := sorted(set(names) ^ set(config)):
        raise ValueError(f"{path}: {', '.join(wrong)}: the fields are {', '.join(names)}")
    try:
        return Shape(**config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
