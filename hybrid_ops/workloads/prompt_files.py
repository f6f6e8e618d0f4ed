"""Prompts from a local file or a Hugging Face dataset, as token ids."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError

TEXT_FIELDS = ("prompt", "text", "question", "instruction", "input", "problem", "query")
"""Where an entry's prompt is looked for, in this order; else in its first turn."""
TURN_FIELDS = ("messages", "conversations", "conversation")
CONTENT_FIELDS = ("content", "value")


def read_prompts(source: str, count: int) -> list[str]:
    """The first `count` different prompts of a file or dataset.

    A `.json` file holds a list, a `.jsonl` file an entry a line, any other file a prompt a line. An entry is a string
    or an object with its prompt in one of TEXT_FIELDS, or a list of turns. A name that is no file is that of a Hugging
    Face dataset, of which the split `train` is read, from the local cache where there is no network.

    Raises InputError, one line, when there are not so many.
    """
    path = Path(source)
    entries = _file_entries(path) if path.is_file() else _dataset_entries(source)
    prompts: dict[str, None] = {}
    for entry in entries:
        if text := _prompt(entry):
            prompts.setdefault(text)
        if len(prompts) == count:
            return list(prompts)
    raise InputError(f"--perf-prompts: {source}: {len(prompts)} different prompts; {count} are needed")


def _file_entries(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--perf-prompts: {path}: cannot be read: {error}") from None
    if path.suffix == ".json":
        document = _decode(text, str(path))
        if not isinstance(document, list):
            raise InputError(f"--perf-prompts: {path}: expected a list of prompts")
        return document
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if path.suffix == ".jsonl":
        return [_decode(line, f"{path}:{number}") for number, line in lines]
    return [line for _, line in lines]


def _decode(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"--perf-prompts: {where}: not JSON: {error}") from None


def _dataset_entries(name: str) -> Iterable[Any]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(
            f"--perf-prompts: {name}: no such file; a Hugging Face dataset needs the package `datasets`"
        ) from None
    try:
        return load_dataset(name, split="train")
    except Exception as error:  # the library's errors have no common base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"--perf-prompts: {name}: no such file, and no dataset that can be loaded: {reason[0]}"
        ) from None


def _prompt(entry: Any) -> str:
    """The prompt of an entry, empty if it has none."""
    if isinstance(entry, str):
        return entry.strip()
    if not isinstance(entry, dict):
        return ""
    for field in TEXT_FIELDS:
        if isinstance(entry.get(field), str):
            return entry[field].strip()
    for field in (*TURN_FIELDS, *TEXT_FIELDS):
        turns = entry.get(field)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            texts = [turns[0][name] for name in CONTENT_FIELDS if isinstance(turns[0].get(name), str)]
            return texts[0].strip() if texts else ""
    return ""


def encode_prompts(
    texts: Iterable[str], vocabulary_size: int, first_token: int, tokenizer: str | None
) -> list[list[int]]:
    """Each prompt as token ids.

    `tokenizer` names the model on the Hugging Face hub whose tokenizer encodes them. Without one, as for drawn weights,
    each byte of UTF-8 is a token, folded into the ordinary tokens. Raises InputError when there is no such tokenizer.
    """
    if tokenizer is None:
        ordinary = vocabulary_size - first_token
        return [[first_token + byte % ordinary for byte in text.encode()] for text in texts]
    from tokenizers import Tokenizer

    try:
        encoder = Tokenizer.from_pretrained(tokenizer)
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"--perf-prompts: the tokenizer of {tokenizer} cannot be had: {error}") from None
    return [encoder.encode(text).ids for text in texts]
