"""Prompts of exact lengths in tokens, drawn with a real tokenizer and the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError

ATTEMPTS = 200
"""Draws of one prompt before its length counts as one that this tokenizer cannot give."""


@dataclass(frozen=True)
class Prompt:
    """One request: its text, its length as the tokenizer counts it, and how much is to be generated."""

    text: str
    prompt_tokens: int
    output_tokens: int


class PromptMaker:
    """Draws prompts with a tokenizer of the transformers library.

    Text made of drawn tokens seldom splits into the same tokens again, so each text is read back, cut or lengthened
    until its own count is the wanted one.
    """

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self._tokenizer = tokenizer
        self._seed = seed
        special = set(tokenizer.all_special_ids)
        self._ordinary = [token for token in range(tokenizer.vocab_size) if token not in special]

    def make(
        self, length: int, count: int, output_tokens: int, prefix_tokens: int = 0, range_ratio: float = 0.0
    ) -> list[Prompt]:
        """`count` prompts of `length` tokens, or of lengths within (1 ± `range_ratio`) times that.

        The first `prefix_tokens` tokens are the same in all of them. Raises InputError for a prefix that leaves no
        room, and where the tokenizer cannot give such prompts.
        """
        shortest = max(1, round(length * (1 - range_ratio)))
        if prefix_tokens >= shortest:
            raise InputError(f"a prefix of {prefix_tokens} tokens leaves no room in prompts of {shortest} tokens")
        generator = random.Random(f"{self._seed}:{length}:{prefix_tokens}:{range_ratio}")  # noqa: S311
        prefix = self._draw(generator, prefix_tokens, "") if prefix_tokens else ""
        prefix_ids = self._encode(prefix)
        prompts = []
        for _ in range(count):
            total = generator.randint(shortest, max(shortest, round(length * (1 + range_ratio))))
            text = self._draw(generator, total, prefix, prefix_ids)
            prompts.append(Prompt(text, total, output_tokens))
        return prompts

    def _draw(self, generator: random.Random, total: int, prefix: str, prefix_ids: Sequence[int] = ()) -> str:
        """A text of `total` tokens that begins with `prefix` and its tokens."""
        for _ in range(ATTEMPTS):
            ids = [*prefix_ids, *generator.choices(self._ordinary, k=total - len(prefix_ids))]
            text = self._decode(ids)
            for _ in range(8):
                found = self._encode(text)
                if len(found) == total:
                    break
                missing = total - len(found)
                # Only ever the end is changed, so that the prefix stays as it is.
                ids = found[:total] if missing < 0 else [*found, *generator.choices(self._ordinary, k=missing)]
                text = self._decode(ids)
            if len(found) == total and found[: len(prefix_ids)] == list(prefix_ids) and text.startswith(prefix):
                return text
        raise InputError(f"this tokenizer gave no prompt of {total} tokens in {ATTEMPTS} draws")

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def _decode(self, ids: Sequence[int]) -> str:
        # Bytes that are no text would come back as other bytes.
        return self._tokenizer.decode(ids).replace("\ufffd", "")


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write one JSON object a line, as `vllm bench serve --dataset-name custom` reads it."""
    lines = (
        json.dumps(
            {"prompt": prompt.text, "prompt_tokens": prompt.prompt_tokens, "output_tokens": prompt.output_tokens},
            ensure_ascii=False,
        )
        for prompt in prompts
    )
    _write(path, "".join(f"{line}\n" for line in lines))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or hub name, or for `words` the suite's own word tokenizer. Raises InputError."""
    import tempfile

    from transformers import AutoTokenizer

    from hybrid_ops.workloads.tokenizer import WORD_TOKENIZER_SIZE, write_word_tokenizer

    if name == "words":
        with tempfile.TemporaryDirectory() as folder:
            write_word_tokenizer(Path(folder), WORD_TOKENIZER_SIZE)
            return AutoTokenizer.from_pretrained(folder)
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"no tokenizer in {name!r}: {str(error).splitlines()[0]}") from None
